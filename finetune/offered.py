"""The commands that this package adds to ``sandbox``: where each is, and its short help. Imports nothing."""

COMMANDS = {
    "dataset": ("finetune.commands.dataset:dataset", "Build, import, show and export training data."),
    "train": ("finetune.commands.train:train", "Train an adapter on a dataset."),
    "adapters": ("finetune.commands.adapters:adapters", "List, show, merge, export, delete adapters."),
    "evaluate": ("finetune.commands.evaluate:evaluate", "Measure models side by side on benchmarks."),
    "compare": ("finetune.commands.compare:compare", "A stored society, without and with an adapter."),
    "loop": ("finetune.commands.loop:loop", "Society, dataset, adapter, society: N times."),
    "loops": ("finetune.commands.loop:loops", "List loops, and forget them."),
    "evaluations": ("finetune.commands.evaluate:evaluations", "List, show, delete what was measured."),
}
