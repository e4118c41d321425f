"""``python -m pipeline.engine.torchrun MEETING JOB.json PIPE``: a stage in several processes by torchrun."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pipeline.engine.job import Resources

RESTARTS = 3  # of all processes, where one was killed; each goes on at the last epoch that was kept


def main(meeting: str, job: str, pipe: str) -> int:
    """``meeting``: the same on all machines that do this stage, and of this stage alone."""
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    resources = Resources(**json.loads(Path(job).read_text())["resources"])
    options = [f"--nproc-per-node={resources.processes}", f"--max-restarts={RESTARTS}"]
    if resources.nodes == 1:
        options += ["--standalone"]
    else:
        where = f"--rdzv-endpoint={resources.rendezvous}"
        options += [f"--nnodes={resources.nodes}", "--rdzv-backend=c10d", where, f"--rdzv-id={meeting}"]
    try:
        run.main([*options, "-m", "pipeline.engine.process", job, pipe])
    except ChildFailedError as failed:
        return int(failed.get_first_failure()[1].exitcode)
    except SignalException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
