"""``python -m pipeline.engine.torchrun MEETING WORDS…``: a stage in several processes, its tracebacks apart."""

from __future__ import annotations

import logging
import os
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pipeline.engine.job import NODES, PROCESSES, RENDEZVOUS

RESTARTS = 3  # of all processes, where one was killed; each goes on at the last epoch that was kept


def main(meeting: str, *words: str) -> int:
    """``meeting``: the same on all machines that do this stage, and of this stage alone."""
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    options = [f"--nproc-per-node={os.environ.get(PROCESSES, '1')}", f"--max-restarts={RESTARTS}"]
    nodes = os.environ.get(NODES, "1")
    if nodes == "1":
        options += ["--standalone"]
    else:
        where = f"--rdzv-endpoint={os.environ[RENDEZVOUS]}"
        options += [f"--nnodes={nodes}", "--rdzv-backend=c10d", where, f"--rdzv-id={meeting}"]
    try:
        run.main([*options, "-m", "pipeline.engine.stage", *words])
    except ChildFailedError as failed:
        return int(failed.get_first_failure()[1].exitcode)
    except SignalException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
