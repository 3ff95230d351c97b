"""What travels between server and clients: frames, commands, snapshots, bodies of REST calls. Pure."""
