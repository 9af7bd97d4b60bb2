"""``gan-style search`` in a process of its own, over the stub of a training."""

import sys
from pathlib import Path

from gan_style.commands import search

search.TRAIN_COMMAND = (sys.executable, str(Path(__file__).with_name("stub_training.py")))
if __name__ == "__main__":
    search.main()
