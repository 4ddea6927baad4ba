package io.edgevit.core

import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class AnswersTest {
    @Test
    fun `probabilities and the top are the host's`() {
        for (vector in Golden.objects("answers")) {
            val probabilities = softmax(vector.getJSONArray("logits").floats())
            val wanted = vector.getJSONArray("probabilities").doubles()
            probabilities.indices.forEach { assertNear(wanted[it], probabilities[it]) }
            val top = vector.getJSONArray("top")
            assertEquals((0 until top.length()).map(top::getInt), top(probabilities, 3))
        }
    }

    @Test
    fun `percentiles are the host's`() {
        for (vector in Golden.objects("percentiles")) {
            val timing = Timing(vector.getJSONArray("times_ms").doubles())
            assertNear(vector.getDouble("p50_ms"), timing.p50Ms)
            assertNear(vector.getDouble("p90_ms"), timing.p90Ms)
            assertNear(vector.getDouble("p99_ms"), timing.p99Ms)
            assertNear(vector.getDouble("min_ms"), timing.minMs)
            assertNear(vector.getDouble("spread"), timing.spread)
        }
    }

    @Test
    fun `parity is the host's`() {
        for (vector in Golden.objects("parity")) {
            val (reference, output) = listOf("reference", "output").map { vector.getJSONArray(it).floats() }
            val parity = Parity.of(reference, output, vector.getDouble("min_sqnr_db"))
            if (vector.isNull("sqnr_db")) {
                assertNull(parity.sqnrDb)
            } else {
                assertNear(vector.getDouble("sqnr_db"), parity.sqnrDb!!)
            }
            assertEquals(vector.getBoolean("top1_matches"), parity.top1Matches)
            assertEquals(vector.getBoolean("holds"), parity.holds)
        }
    }

    @Test
    fun `logits that cannot be compared are refused`() {
        val reference = floatArrayOf(1f, 2f)
        assertThrows(Problem::class.java) { Parity.of(reference, floatArrayOf(1f), 0.0) }
        assertThrows(Problem::class.java) { Parity.of(floatArrayOf(0f, 0f), reference, 0.0) }
    }

    @Test
    fun `an infinite answer does not hold`() {
        val parity = Parity.of(floatArrayOf(1f, 2f), floatArrayOf(1f, Float.POSITIVE_INFINITY), 0.0)
        assertNull(parity.sqnrDb)
        assertFalse(parity.top1Matches || parity.holds)
    }

    @Test
    fun `what is not finite has no probability`() {
        for (value in listOf(Float.NaN, Float.NEGATIVE_INFINITY)) {
            assertThrows(Problem::class.java) { softmax(floatArrayOf(1f, value)) }
        }
    }

    private fun assertNear(wanted: Double, found: Double) =
        assertTrue("$wanted, not $found", abs(found - wanted) <= 1e-12 * abs(wanted))
}
