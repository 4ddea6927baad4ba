package io.edgevit.core

import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/** From an image of any size to the input of the model, equal to the host's to the last bit. */
class Preprocess(
    val resize: Int,
    val crop: Int,
    val interpolation: Interpolation,
    mean: List<Double>,
    std: List<Double>,
) {
    private val mean = mean.map(Double::toFloat)
    private val std = std.map(Double::toFloat)

    /** `[3, crop, crop]` float32. */
    operator fun invoke(image: Pixels): FloatArray {
        val scale = resize.toDouble() / min(image.width, image.height)
        return normalised(image.resized(side(image.width, scale), side(image.height, scale), interpolation))
    }

    /** Halves are rounded to the even neighbour. */
    private fun side(length: Int, scale: Double) = max(crop, round(length * scale).toInt())

    /** The crop in the middle. */
    private fun normalised(image: Pixels): FloatArray {
        val left = (image.width - crop) / 2
        val top = (image.height - crop) / 2
        val values = FloatArray(3 * crop * crop)
        for (channel in 0 until 3) {
            for (y in 0 until crop) {
                for (x in 0 until crop) {
                    val pixel = image.rgb[((top + y) * image.width + left + x) * 3 + channel].toInt() and 255
                    values[(channel * crop + y) * crop + x] = (pixel / 255f - mean[channel]) / std[channel]
                }
            }
        }
        return values
    }
}
