import XCTest

@testable import EdgeViTCore

/// Calls of given lengths on a clock that only they move.
private final class Script {
    private(set) var now: UInt64 = 1_000
    private(set) var count = 0
    let length: (Int) -> Double

    /// `length` gives the milliseconds of the nth call.
    init(_ length: @escaping (Int) -> Double) {
        self.length = length
    }

    var timing: Timing {
        Timing(clock: { self.now }) {
            self.now += UInt64(self.length(self.count) * 1e6)
            self.count += 1
        }
    }
}

final class TimingTests: XCTestCase {
    func testWarmUpTakesTwoWindowsWhereNothingChanges() throws {
        let script = Script { _ in 10 }
        XCTAssertTrue(try script.timing.warmUp())
        XCTAssertEqual(script.count, 40)
    }

    func testWarmUpGoesOnUntilTwoNeighboursAgree() throws {
        let script = Script { $0 < 10 ? 20 : $0 < 30 ? 10 : 9.6 }
        XCTAssertTrue(try script.timing.warmUp())
        XCTAssertEqual(script.count, 10 + 20 + 21)
    }

    func testWarmUpEndsAfterTenSecondsAndSaysSo() throws {
        let script = Script { pow(1.3, Double($0)) }
        XCTAssertFalse(try script.timing.warmUp())
        XCTAssertTrue((10_000_000_000..<15_000_000_000).contains(script.now), "\(script.now)")
    }

    func testACallThatFillsAWindowIsAWindow() throws {
        let script = Script { _ in 700 }
        XCTAssertTrue(try script.timing.warmUp())
        XCTAssertEqual(script.count, 2)
    }

    func testRunsAndSecondsAreBothReached() throws {
        XCTAssertEqual(try Script { _ in 1 }.timing.measure(TimingPlan()).count, 5000)
        XCTAssertEqual(try Script { _ in 50 }.timing.measure(TimingPlan()).count, 480)
    }

    func testSlowCallsEndAfterAMinuteButThereAreTwenty() throws {
        XCTAssertEqual(try Script { _ in 1000 }.timing.measure(TimingPlan()).count, 60)
        XCTAssertEqual(try Script { _ in 7000 }.timing.measure(TimingPlan()).count, 20)
    }

    func testACallHasItsStartAndItsLength() throws {
        let calls = try Script { Double($0 + 1) * 1000 }.timing.measure(TimingPlan(runs: 3, seconds: 0))
        XCTAssertEqual(
            calls, [TimedCall(start: 0, ms: 1000), TimedCall(start: 1, ms: 2000), TimedCall(start: 3, ms: 3000)])
    }

    func testTheFirstMinuteIsToldBesideTheLast() throws {
        let calls = try Script { $0 < 600 ? 100 : $0 < 900 ? 200 : 300 }.timing.sustain(minutes: 3)
        let sustained = Sustained(minutes: 3, calls: calls)
        XCTAssertEqual(sustained.calls, 600 + 300 + 200)
        XCTAssertEqual(sustained.firstMinute, 100)
        XCTAssertEqual(sustained.lastMinute, 300)
    }

    func testNoMinutesAreNoCalls() throws {
        XCTAssertEqual(try Script { _ in 1 }.timing.sustain(minutes: 0), [])
    }

    func testAPlanOfOneMinuteIsRefused() {
        XCTAssertThrowsError(try TimingPlan(minutes: 1))
        XCTAssertThrowsError(try TimingPlan(runs: 0))
        XCTAssertNoThrow(try TimingPlan(minutes: 2))
    }

    func testAPlotIsOfMediansOfSpans() throws {
        let calls = try Script { $0 < 10 ? 100 : $0 == 10 ? 1000 : 200 }.timing.measure(TimingPlan(runs: 21, seconds: 0))
        XCTAssertEqual(
            medians(of: calls, spans: 4),
            [TimedCall(start: 0, ms: 100), TimedCall(start: 1, ms: 1000), TimedCall(start: 2, ms: 200),
             TimedCall(start: 3, ms: 200)])
        XCTAssertEqual(medians(of: [], spans: 4), [])
    }

    func testACancelledTaskStops() async throws {
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return try Timing {}.measure(TimingPlan(runs: 1, seconds: 0))
        }
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("it went on")
        } catch is CancellationError {}
    }
}
