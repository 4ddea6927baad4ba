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

DEFAULTS = {"efficientvit": EFFICIENTVIT}
