"""How fast a student is distilled: Retort's loop beside the loops that are in public use, in one run."""
