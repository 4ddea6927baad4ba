"""The default recipe of each model family."""

from calibrate.recipe import Recipe, Rule

EFFICIENTVIT = Recipe(
    rules=(
        Rule("patch_embed.0.*", "float", "three input channels fill no integer kernel's registers"),
        Rule("*.attn.qkvs.*", "float", "chunks of 16 to 112 channels, whose results feed float attention either way"),
        Rule("*.attn.dws.*", "float", "feeds the softmax, on 16 channels"),
        Rule("*.se.*", "float", "a 1 x 1 map behind a sigmoid: nothing to gain, a whole channel to lose"),
        Rule(
            "*.residual",
            "float",
            "OpenVINO runs none in integers; cost 0.7 dB on M0 after one epoch and gained no time",
        ),
        Rule("*", "int8", "pointwise, depthwise and stem convolutions and the classifier"),
    ),
    observer="minmax",
)

DYNAMICVIT = Recipe(
    rules=(
        Rule("score_predictor.*", "float", "3 % of the arithmetic, and a score that moves drops another token"),
        Rule("*.residual", "float", "OpenVINO runs none in integers, and ONNX Runtime is slower with them"),
        Rule("*", "int8", "linear layers of the blocks, the heads and the patch embedding"),
    ),
    observer="minmax",
    may_lack=("score_predictor.*",),  # a backbone that is not pruned
)

SEPVIT = Recipe(
    rules=(
        Rule("*.attn.PSA_qk", "float", "one window token each: a few rows, less than quantising them costs"),
        Rule("patch_embeds.0.*", "float", "three input channels fill no integer kernel's registers"),
        Rule("*.residual", "float", "OpenVINO runs none in integers, and ONNX Runtime is slower with them"),
        Rule("*", "int8", "linear layers of the blocks, the head, patch embeddings and positional convolutions"),
    ),
    observer="minmax",
)

DEFAULTS = {"efficientvit": EFFICIENTVIT, "dynamicvit": DYNAMICVIT, "sepvit": SEPVIT}
