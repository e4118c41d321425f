from torch import nn

class Node:
    inputs: list[Node]
    module: nn.Module
