"""The int8 grid of a network: captured, calibrated, trained on, and written into a graph that a runtime can read.

``capture`` turns a network in evaluation mode into a graph and folds its constants and batch-norms; ``policy`` says
which tensors are rounded; ``grid`` puts a ``Rounding`` behind each of them; ``calibration`` finds each one's scale.
There is one graph: the calibrated one is trained on, kept as a checkpoint and converted for export.
"""
