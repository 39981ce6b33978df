"""Cases where a right server cannot answer as the suite does: why, and what is compared instead."""

import re
from dataclasses import dataclass

# One step between neighbouring numbers of fp16 is up to 2**-10 of the value, which the suite's 1e-3 is not always.
TWO_STEPS_OF_FP16 = (2**-9, 1e-7)
BOTH = ("tract", "onnxruntime")


@dataclass
class Known:
    """A deviation: a pattern of whole names, the engines, and what takes the place of the suite's comparison."""

    pattern: str
    engines: tuple
    reason: str
    # Values are drawn: only names, types and shapes are compared.
    drawn: bool = False
    # What Python's onnxruntime answers is expected, not the suite's outputs.
    python: bool = False
    # Another relative and absolute tolerance.
    near: tuple = ()


KNOWN = [
    Known("test_training_dropout.*", ("onnxruntime",), "the mask is drawn at random", drawn=True),
    Known("test_(attention|causal_conv)_.*fp16(_expanded)?", BOTH, "fp16 rounded once more or less", near=TWO_STEPS_OF_FP16),
    Known("test_dft.*", ("tract",), "zeros that are sums of a hundred cancelling terms", near=(1e-3, 1e-5)),
    Known("test_stft.*", BOTH, "zeros that are sums of cancelling terms", near=(1e-3, 1e-4)),
    Known("test_gru_(seq_length|bidirectional)", ("tract",), "values near zero after cancelling sums", near=(1e-3, 2e-6)),
    Known("test_dft.*", ("onnxruntime",), "Bluestein's algorithm is less exact than the reference", python=True),
    Known(
        "test_attention_4d_with_past_and_present_qk_matmul_bias_[34]d_mask_causal",
        ("onnxruntime",),
        "masked scores are the lowest number instead of -inf",
        python=True,
    ),
    Known("test_maxunpool_export_with_output_shape", ("onnxruntime",), "indices are taken as of the smaller output", python=True),
    Known(
        "test_resize_downsample_scales_(linear|cubic)_align_corners",
        ("onnxruntime",),
        "the last source pixel is that of the unrounded size",
        python=True,
    ),
]


def known(engine, name):
    """The deviation of this case on this engine; None where there is none."""
    return next((entry for entry in KNOWN if engine in entry.engines and re.fullmatch(entry.pattern, name)), None)


def expected_of(entry, case, inputs, outputs):
    """The outputs and the tolerances that take the place of the suite's; none where values are not compared."""
    rtol, atol = entry.near or (case.rtol, case.atol)
    if entry.python:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, ["CPUExecutionProvider"])
        outputs = dict(zip(outputs, session.run(list(outputs), inputs), strict=True))
    return outputs, rtol, None if entry.drawn else atol
