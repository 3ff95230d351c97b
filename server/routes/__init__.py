"""REST, by what it is about. Routers declare; the services decide."""
