from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer

class QuantConfig:
    def __init__(self, *, pt2e_quantizer: PT2EQuantizer) -> None: ...
