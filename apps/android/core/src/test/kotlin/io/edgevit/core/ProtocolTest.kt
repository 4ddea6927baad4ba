package io.edgevit.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

class ProtocolTest {
    private var now = 0L
    private var calls = 0
    private val heard = mutableListOf<Double>()

    /** Calls that take [ms] each, of the call's number. */
    private fun protocol(ms: (Int) -> Double) =
        Protocol({ now }, { heard += it }) { now += (ms(calls++) * 1e6).toLong() }

    @Test
    fun `the warm-up ends with two windows that agree`() {
        assertTrue(protocol { 10.0 }.warmUp())
        assertEquals(40, calls)
        assertEquals(List(40) { 10.0 }, heard)
    }

    @Test
    fun `what gets faster is warmed up until it is steady`() {
        assertTrue(protocol { if (now < 1_000_000_000) 20.0 - 15.0 * now / 1e9 else 5.0 }.warmUp())
        assertTrue("$now", now in 1_200_000_000..1_600_000_000)
    }

    @Test
    fun `five percent of the earlier window is steady and more is not`() {
        assertTrue(protocol { if (it < 2) 100.0 else 105.0 }.warmUp())
        assertEquals(4, calls)
        calls = 0
        assertTrue(protocol { if (it < 2) 100.0 else 105.2 }.warmUp())
        assertEquals(6, calls)
    }

    @Test
    fun `a warm-up without an end takes ten seconds`() {
        assertFalse(protocol { if (it % 2 == 0) 300.0 else 600.0 }.warmUp())
        assertTrue("$now", now in 10_000_000_000..10_600_000_000)
    }

    @Test
    fun `runs and seconds are both reached`() {
        assertEquals(480, protocol { 100.0 }.measure(480, 5.0).runs)
        assertEquals(5000, protocol { 1.0 }.measure(480, 5.0).runs)
    }

    @Test
    fun `a minute is enough, but for twenty calls`() {
        assertEquals(60, protocol { 1000.0 }.measure(480, 5.0).runs)
        assertEquals(20, protocol { 5000.0 }.measure(480, 5.0).runs)
        assertEquals(3, protocol { 5000.0 }.measure(3, 0.0).runs)
    }

    @Test
    fun `the first minute is told beside the last`() {
        val slower = listOf(10.0, 15.0, 20.0) // minute by minute
        val sustained = protocol { slower[(now / 60_000_000_000).toInt()] }.sustain(3.0)
        assertEquals(6000 + 4000 + 3000, sustained.calls)
        assertEquals(10.0, sustained.firstMinuteP50Ms, 0.0)
        assertEquals(20.0, sustained.lastMinuteP50Ms, 0.0)
        assertEquals(3.0, sustained.minutes, 0.0)
    }

    @Test
    fun `each second's median is drawn once it is over`() {
        val timeline = Timeline()
        val calls = listOf(0.1 to 1.0, 0.5 to 9.0, 0.9 to 2.0, 1.5 to 5.0, 4.2 to 7.0)
        for ((seconds, ms) in calls) timeline.heard(seconds, ms)
        assertEquals(listOf(0 to 2.0, 1 to 5.0), timeline.points().map { it.second to it.ms })
    }
}
