package io.edgevit.core

import kotlin.math.abs

/** Nanoseconds, which only go on. */
typealias Clock = () -> Long

private const val WINDOW_S = 0.2 // long enough for a clock to ramp up and for a median of many short calls
private const val STEADY = 0.05 // how near, relatively, the median of a window is to that of the one before
private const val WARM_UP_S = 10.0
internal const val LONGEST_S = 60.0
private const val FEWEST = 20

/**
 * How a latency is timed: the same [call] again and again, with [clock] read before and after it.
 *
 * [heard] is told what each call took, in milliseconds, outside of what is timed; what it throws ends the measurement.
 */
class Protocol(private val clock: Clock, private val heard: (Double) -> Unit, private val call: () -> Unit) {
    /** Windows of calls until the medians of two neighbours agree: whether they did before time was over. */
    fun warmUp(): Boolean {
        val deadline = after(WARM_UP_S)
        var before = window()
        while (true) {
            val next = window()
            if (abs(next - before) <= STEADY * before) return true
            if (clock() >= deadline) return false
            before = next
        }
    }

    /** Calls until there are [runs] and [seconds] are over, for no more than a minute unless they are very few. */
    fun measure(runs: Int, seconds: Double): Timing {
        val (enough, deadline) = listOf(seconds, LONGEST_S).map(::after)
        val times = Times()
        while ((times.count < runs || clock() < enough) && (times.count < FEWEST || clock() < deadline)) {
            times.add(time())
        }
        return Timing(times.all())
    }

    /** Calls for so many [minutes]: whether the device slows down as it warms up. */
    fun sustain(minutes: Double): Sustained {
        val start = clock()
        val deadline = after(minutes * 60)
        val began = Times()
        val took = Times()
        while (clock() < deadline) {
            began.add((clock() - start) / 1e9)
            took.add(time())
        }
        return Sustained(minutes, began.all(), took.all())
    }

    private fun window(): Double {
        val end = after(WINDOW_S)
        val times = Times()
        do times.add(time()) while (clock() < end)
        return median(times.all())
    }

    private fun time(): Double {
        val start = clock()
        call()
        val ms = (clock() - start) / 1e6
        heard(ms)
        return ms
    }

    private fun after(seconds: Double): Long = clock() + (seconds * 1e9).toLong()
}

/** Of calls that [beganS] seconds after the first and took [tookMs]; the last minute is that before the last call. */
class Sustained(val minutes: Double, beganS: DoubleArray, tookMs: DoubleArray) {
    val calls = tookMs.size
    val firstMinuteP50Ms = median(tookMs.filterIndexed { i, _ -> beganS[i] < 60 })
    val lastMinuteP50Ms = median(tookMs.filterIndexed { i, _ -> beganS[i] > beganS.last() - 60 })
}

/** Times as they come, in an array that grows: boxing each would disturb the next. */
private class Times {
    private var values = DoubleArray(1024)
    var count = 0
        private set

    fun add(value: Double) {
        if (count == values.size) values = values.copyOf(2 * count)
        values[count++] = value
    }

    fun all(): DoubleArray = values.copyOf(count)
}

private fun median(times: List<Double>) = median(times.toDoubleArray())
