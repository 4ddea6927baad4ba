"""The default recipe of each model family."""

from calibrate.recipe import Recipe, Rule

# What each calibration method is worth for each family: results/ablation.md.

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
    observer="hessian",
    rounding=True,
    bias_correction=True,
)

DYNAMICVIT = Recipe(
    rules=(
        Rule("score_predictor.*", "float", "3 % of the arithmetic, and a score that moves drops another token"),
        Rule("*.residual", "float", "OpenVINO runs none in integers; cost 5 dB on DeiT-T"),
        Rule("patch_embed.proj", "float", "all blocks add to it: cost 0.5 to 1.2 dB on DeiT-T, gained 4 % of time"),
        Rule("*", "int8", "linear layers of the blocks, heads, and the convolutions before the last patch embedding"),
    ),
    observer="hessian",
    migration=0.5,
    may_lack=("score_predictor.*",),  # a backbone that keeps all its tokens
)

SEPVIT = Recipe(
    rules=(
        Rule("*.attn.PSA_qk", "float", "a row a window, at most 256: gained no time, and it decides a softmax"),
        Rule("pos_block.*", "float", "depthwise, between transposes: cost 0.5 dB and gained no time"),
        Rule("patch_embeds.0.*", "float", "three input channels fill no integer kernel's registers: gained no time"),
        Rule("*.residual", "float", "OpenVINO runs none in integers; cost 0.4 dB and gained no time"),
        Rule("*", "int8", "linear layers of the blocks, later patch embeddings and the classifier"),
    ),
    observer="hessian",
    rounding=True,
    bias_correction=True,
    may_lack=("*.attn.PSA_qk",),  # images of 28 pixels have one window
)

DEFAULTS = {"efficientvit": EFFICIENTVIT, "dynamicvit": DYNAMICVIT, "sepvit": SEPVIT}
