package io.edgevit.core

import org.json.JSONObject

/** The part of `result.json` that says what was measured where. */
internal fun result(bundle: Bundle, device: Device, now: String): JSONObject =
    JSONObject()
        .put("schema", 1)
        .put("edgevit", bundle.edgevit)
        .put("export_sha256", bundle.exportSha256)
        .put("model", bundle.model)
        .put("quant", bundle.quant)
        .put("created", now)
        .put("app", "android")
        .put("device", device(device))

private fun device(device: Device) =
    JSONObject()
        .put("name", device.name.orNull())
        .put("os", device.os.orNull())
        .put("soc", device.soc.orNull())
        .put("arch", device.arch.orNull())
        .put("cores", device.cores)
        .put("emulated", device.emulated.orNull())

internal fun runtime(session: Session): JSONObject =
    JSONObject().put("name", session.runtime).put("version", session.version).put("delegate", session.delegate)

internal fun parity(parity: Parity): JSONObject =
    JSONObject()
        .put("sqnr_db", parity.sqnrDb.orNull())
        .put("min_sqnr_db", parity.minSqnrDb)
        .put("top1_matches", parity.top1Matches)
        .put("holds", parity.holds)

internal fun latency(timing: Timing, steady: Boolean): JSONObject =
    JSONObject()
        .put("runs", timing.runs)
        .put("p50_ms", timing.p50Ms)
        .put("p90_ms", timing.p90Ms)
        .put("p99_ms", timing.p99Ms)
        .put("min_ms", timing.minMs)
        .put("spread", timing.spread)
        .put("steady", steady)

internal fun start(loadMs: Double, firstMs: Double): JSONObject =
    JSONObject().put("load_ms", loadMs).put("first_ms", firstMs)

internal fun sustained(sustained: Sustained): JSONObject =
    JSONObject()
        .put("minutes", sustained.minutes)
        .put("calls", sustained.calls)
        .put("first_minute_p50_ms", sustained.firstMinuteP50Ms)
        .put("last_minute_p50_ms", sustained.lastMinuteP50Ms)

internal fun thermal(before: String, after: String): JSONObject =
    JSONObject().put("before", JSONObject().put("state", before)).put("after", JSONObject().put("state", after))

/** `put` leaves a key out whose value is null. */
internal fun Any?.orNull(): Any = this ?: JSONObject.NULL
