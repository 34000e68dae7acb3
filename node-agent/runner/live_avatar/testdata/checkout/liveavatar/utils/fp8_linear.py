"""Stand-in: marks the model."""


def replace_linear_with_scaled_fp8(model, ignore_keys):
    assert "head.head" in ignore_keys
    model.fp8 = True
