package io.edgevit.core

/** Linear between the two nearest of sorted times. */
fun percentile(sorted: DoubleArray, p: Double): Double {
    val at = (sorted.size - 1) * p / 100
    val low = at.toInt()
    if (low == sorted.size - 1) return sorted[low]
    return sorted[low] + (sorted[low + 1] - sorted[low]) * (at - low)
}

/** Of times in any order. */
fun median(times: DoubleArray): Double = percentile(times.sortedArray(), 50.0)

/** The latency of [runs] calls; [spread] is (p75 - p25) / p50, without unit. */
class Timing(timesMs: DoubleArray) {
    private val sorted = timesMs.sortedArray()
    val runs = sorted.size
    val p50Ms = percentile(sorted, 50.0)
    val p90Ms = percentile(sorted, 90.0)
    val p99Ms = percentile(sorted, 99.0)
    val minMs = sorted.first()
    val spread = (percentile(sorted, 75.0) - percentile(sorted, 25.0)) / p50Ms
}
