package io.edgevit.core

/** Where a result was measured; null where it cannot be told. */
class Device(
    val name: String?,
    val os: String?,
    val soc: String?,
    val arch: String?,
    val cores: Int,
    val emulated: String?,
)

/** `Android emulator`, by the names that its virtual boards and products have, else null. */
fun emulated(hardware: String, product: String): String? =
    if (hardware in setOf("goldfish", "ranchu") || product.startsWith("sdk_")) "Android emulator" else null

/** The state of one of `PowerManager`'s thermal statuses, from 0 for none to 6 for a shutdown. */
fun thermalState(status: Int): String =
    when (status) {
        0 -> "nominal"
        1, 2 -> "fair" // light and moderate: the user hardly feels them
        3 -> "serious"
        else -> "critical"
    }

/** The peak of a process's memory in bytes, of what its `/proc/self/status` says. */
fun peakBytes(status: String): Long? =
    Regex("""VmHWM:\s*(\d+) kB""").find(status)?.let { it.groupValues[1].toLong() * 1024 }
