import XCTest

@testable import EdgeViTCore

/// Gives what it is told to, and keeps what it was given.
final class Recorded: Model {
    let answer: [Float]
    var inputs: [[Float]] = []

    init(_ answer: [Float]) {
        self.answer = answer
    }

    func logits(of input: [Float]) throws -> [Float] {
        inputs.append(input)
        return answer
    }
}

final class BenchmarkTests: XCTestCase {
    private let device = Device(name: "iPhone16,1", os: "iOS 17.5", soc: nil, arch: "aarch64", cores: 6, emulated: nil)

    private func run(_ model: Recorded, minutes: Double = 0) throws -> (json: [String: Any], calls: [TimedCall]) {
        let installed = try TestBundle().installed()
        var now: UInt64 = 0
        var memory = [3_000_000, 5_500_000].makeIterator()
        var heat = [Thermal.State.nominal, .fair].makeIterator()
        let benchmark = Benchmark(
            installed: installed, artifact: try installed.artifact(for: .executorch),
            runtime: RuntimeUsed(name: "executorch", version: "1.5.1", delegate: "XNNPACK"), device: device,
            thermal: { heat.next()! }, peakMemory: { memory.next()! },
            clock: {
                now += 1_000_000
                return now
            },
            load: { model })
        let (result, calls) = try benchmark.run(TimingPlan(runs: 30, seconds: 0, minutes: minutes))
        return (try JSONSerialization.jsonObject(with: result.json()) as! [String: Any], calls)
    }

    private func part(_ json: [String: Any], _ key: String) throws -> [String: Any] {
        try XCTUnwrap(json[key] as? [String: Any], key)
    }

    func testEveryFieldIsThere() throws {
        let model = Recorded([0.5, 4, -1])
        let (json, calls) = try run(model)
        XCTAssertEqual(
            Set(json.keys),
            [
                "schema", "edgevit", "export_sha256", "model", "quant", "created", "app", "device", "runtime", "threads",
                "parity", "latency", "start", "memory_mb", "sustained", "thermal",
            ])
        XCTAssertEqual(json["schema"] as? Int, 1)
        XCTAssertEqual(json["edgevit"] as? String, "0.2.0")
        XCTAssertEqual(json["export_sha256"] as? String, "ab12")
        XCTAssertEqual(json["app"] as? String, "ios")
        XCTAssertTrue(json["threads"] is NSNull)
        XCTAssertTrue(json["sustained"] is NSNull)
        XCTAssertEqual(json["memory_mb"] as? Double, 2.5)
        let created = try XCTUnwrap(json["created"] as? String)
        XCTAssertNotNil(created.range(of: #"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"#, options: .regularExpression), created)
        let device = try part(json, "device")
        XCTAssertEqual(Set(device.keys), ["name", "os", "soc", "arch", "cores", "emulated"])
        XCTAssertTrue(device["emulated"] is NSNull)
        XCTAssertEqual(try part(json, "runtime") as? [String: String], [
            "name": "executorch", "version": "1.5.1", "delegate": "XNNPACK",
        ])
        let latency = try part(json, "latency")
        XCTAssertEqual(
            Set(latency.keys), ["runs", "p50_ms", "p90_ms", "p99_ms", "min_ms", "spread", "steady"])
        XCTAssertEqual(latency["p50_ms"] as? Double, 1)
        XCTAssertEqual(latency["runs"] as? Int, 30)
        XCTAssertEqual(calls.count, 30)
        XCTAssertEqual(try part(json, "start") as? [String: Double], ["load_ms": 1, "first_ms": 1])
        XCTAssertEqual(
            try part(json, "thermal") as? [String: [String: String]],
            ["before": ["state": "nominal"], "after": ["state": "fair"]])
        XCTAssertTrue(model.inputs.allSatisfy { $0 == TestBundle.input })
    }

    func testParityHolds() throws {
        let parity = try part(run(Recorded([0.5, 4, -1])).json, "parity")
        XCTAssertEqual(parity["sqnr_db"] as? Double, 200)
        XCTAssertEqual(parity["min_sqnr_db"] as? Double, 30)
        XCTAssertEqual(parity["top1_matches"] as? Bool, true)
        XCTAssertEqual(parity["holds"] as? Bool, true)
    }

    func testParityFailsOnNoise() throws {
        let parity = try part(run(Recorded([0.5, 4.5, -1])).json, "parity")
        XCTAssertEqual(parity["top1_matches"] as? Bool, true)
        XCTAssertEqual(parity["holds"] as? Bool, false)
    }

    func testParityFailsOnAnotherClass() throws {
        let parity = try Parity(reference: [4, 4.001], output: [4.001, 4], minimumSQNR: 30)
        XCTAssertGreaterThan(try XCTUnwrap(parity.sqnr), 60)
        XCTAssertFalse(parity.holds)
    }

    func testParityFailsWhereAnAnswerIsNotFinite() throws {
        let parity = try part(run(Recorded([0.5, .nan, -1])).json, "parity")
        XCTAssertTrue(parity["sqnr_db"] is NSNull)
        XCTAssertEqual(parity["top1_matches"] as? Bool, false)
        XCTAssertEqual(parity["holds"] as? Bool, false)
    }

    func testLogitsThatDoNotCompareAreRefused() throws {
        XCTAssertThrowsError(try run(Recorded([0.5, 4])))
        XCTAssertThrowsError(try Parity(reference: [0, 0], output: [1, 0], minimumSQNR: 30))
    }

    func testAnErrorIsOneSentence() throws {
        let json = try BenchmarkResult.json(of: Problem("it failed: do this"))
        XCTAssertEqual(try JSONSerialization.jsonObject(with: json) as? [String: String], ["error": "it failed: do this"])
    }

    func testSustained() throws {
        let (json, calls) = try run(Recorded([0.5, 4, -1]), minutes: 2)
        let sustained = try part(json, "sustained")
        XCTAssertEqual(
            Set(sustained.keys), ["minutes", "calls", "first_minute_p50_ms", "last_minute_p50_ms"])
        XCTAssertEqual(sustained["minutes"] as? Double, 2)
        XCTAssertEqual(sustained["calls"] as? Int, calls.count)
    }
}
