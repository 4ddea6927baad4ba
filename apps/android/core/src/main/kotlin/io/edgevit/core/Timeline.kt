package io.edgevit.core

/** The median latency of each second: heard on one thread, read on another. */
class Timeline {
    class Point(val second: Int, val ms: Double)

    private val points = mutableListOf<Point>()
    private val current = mutableListOf<Double>()
    private var second = 0

    /** A call that ended so many [seconds] after the beginning. */
    @Synchronized
    fun heard(seconds: Double, ms: Double) {
        if (seconds.toInt() > second) {
            if (current.isNotEmpty()) points += Point(second, median(current.toDoubleArray()))
            current.clear()
            second = seconds.toInt()
        }
        current += ms
    }

    /** Of the seconds that are over. */
    @Synchronized
    fun points(): List<Point> = points.toList()
}
