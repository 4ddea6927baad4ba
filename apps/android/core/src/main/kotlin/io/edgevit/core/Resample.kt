package io.edgevit.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

private const val BITS = 22 // of the weights' fractions
private const val A = -0.5 // of the bicubic kernel

/** A kernel and how far it reaches, in samples of the coarser of both images. */
enum class Interpolation(internal val reach: Double) {
    BILINEAR(1.0) {
        override fun weight(x: Double) = if (x < 1) 1 - x else 0.0
    },
    BICUBIC(2.0) {
        override fun weight(x: Double) = when {
            x < 1 -> ((A + 2) * x - (A + 3)) * x * x + 1
            x < 2 -> (((x - 5) * x + 8) * x - 4) * A
            else -> 0.0
        }
    }, ;

    /** Of a distance that is not negative. */
    internal abstract fun weight(x: Double): Double
}

/** For each output the first input that it is made of, and the weights of that and those after it. */
private class Taps(val first: IntArray, val weights: Array<IntArray>)

/** As Pillow resizes, to the last bit: the rows first, and only the sides that change. */
fun Pixels.resized(width: Int, height: Int, interpolation: Interpolation): Pixels =
    wide(width, interpolation).high(height, interpolation)

private fun Pixels.wide(width: Int, interpolation: Interpolation): Pixels {
    if (width == this.width) return this
    val out = Pixels(width, height)
    resample(this, out, taps(this.width, width, interpolation), height, this.width * 3, width * 3, step = 3)
    return out
}

private fun Pixels.high(height: Int, interpolation: Interpolation): Pixels {
    if (height == this.height) return this
    val out = Pixels(width, height)
    resample(this, out, taps(this.height, height, interpolation), width, 3, 3, step = width * 3)
    return out
}

/** Of [lines] lines, which begin [fromLine] and [toLine] bytes apart, and whose pixels lie [step] bytes apart. */
private fun resample(from: Pixels, to: Pixels, taps: Taps, lines: Int, fromLine: Int, toLine: Int, step: Int) {
    for (line in 0 until lines) {
        for (i in taps.first.indices) {
            for (channel in 0 until 3) {
                var at = line * fromLine + taps.first[i] * step + channel
                var sum = 1 shl (BITS - 1)
                for (weight in taps.weights[i]) {
                    sum += weight * (from.rgb[at].toInt() and 255)
                    at += step
                }
                to.rgb[line * toLine + i * step + channel] = (sum shr BITS).coerceIn(0, 255).toByte()
            }
        }
    }
}

private fun taps(from: Int, to: Int, interpolation: Interpolation): Taps {
    val scale = from.toDouble() / to
    val spread = max(scale, 1.0)
    val support = spread * interpolation.reach
    val first = IntArray(to)
    val weights = Array(to) { i ->
        val centre = (i + 0.5) * scale
        first[i] = max(0, (centre - support + 0.5).toInt())
        val end = min(from, (centre + support + 0.5).toInt())
        val real = DoubleArray(end - first[i]) { j ->
            interpolation.weight(abs((j + first[i] - centre + 0.5) * (1 / spread)))
        }
        val sum = real.sum()
        IntArray(real.size) { j -> fixed(real[j] / sum) }
    }
    return Taps(first, weights)
}

private fun fixed(weight: Double): Int = (weight * (1 shl BITS) + if (weight < 0) -0.5 else 0.5).toInt()
