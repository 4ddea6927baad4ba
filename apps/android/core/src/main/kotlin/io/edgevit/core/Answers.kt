package io.edgevit.core

import kotlin.math.exp
import kotlin.math.log10
import kotlin.math.min

private const val MAX_DB = 200.0 // JSON has no infinity

/** The probabilities of logits. Throws Problem where one is not finite. */
fun softmax(logits: FloatArray): DoubleArray {
    demand(logits.all(Float::isFinite)) { "the model's answer is not finite here: choose the other runtime" }
    val largest = logits.max().toDouble()
    val powers = DoubleArray(logits.size) { exp(logits[it] - largest) }
    val sum = powers.sum()
    return DoubleArray(logits.size) { powers[it] / sum }
}

/** The classes of the [count] largest probabilities, largest first; of equal ones the lower class first. */
fun top(probabilities: DoubleArray, count: Int): List<Int> =
    probabilities.indices.sortedByDescending { probabilities[it] }.take(count)

/** How near an output comes to its reference: signal to quantisation noise in dB. */
fun sqnrDb(reference: FloatArray, output: FloatArray): Double {
    val signal = reference.sumOf { it.toDouble() * it }
    val noise = reference.indices.sumOf { (reference[it].toDouble() - output[it]).let { off -> off * off } }
    return if (noise == 0.0) MAX_DB else min(MAX_DB, 10 * log10(signal / noise))
}

/** Whether a model gives on this device what it gave on the host that exported it; no dB for what is not finite. */
class Parity(val sqnrDb: Double?, val minSqnrDb: Double, val top1Matches: Boolean) {
    val holds get() = sqnrDb != null && sqnrDb >= minSqnrDb && top1Matches

    companion object {
        /** Throws Problem for logits that cannot be compared. */
        fun of(reference: FloatArray, output: FloatArray, minSqnrDb: Double): Parity {
            demand(output.size == reference.size) {
                "the model gives ${output.size} logits and not ${reference.size}: run edgevit bundle again"
            }
            demand(reference.any { it != 0f }) {
                "the reference logits are all zero, so nothing compares with them: export trained weights"
            }
            if (!output.all(Float::isFinite)) return Parity(null, minSqnrDb, top1Matches = false)
            return Parity(sqnrDb(reference, output), minSqnrDb, first(reference) == first(output))
        }

        private fun first(logits: FloatArray) = logits.indices.maxBy { logits[it] }
    }
}
