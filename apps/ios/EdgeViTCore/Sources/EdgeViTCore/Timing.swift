import Dispatch

/// How long to time: `runs` calls and `seconds` at least; then, where `minutes` is not 0, calls for so long.
public struct TimingPlan: Equatable, Sendable {
    public let runs: Int
    public let seconds: Double
    public let minutes: Double

    public init(runs: Int = 480, seconds: Double = 5, minutes: Double = 0) throws {
        guard runs >= 1, (0...Timing.limit).contains(seconds), minutes == 0 || minutes >= 2 else {
            throw Problem("timing takes 1 run or more, 0 to \(Int(Timing.limit)) seconds, and 0 minutes or at least 2")
        }
        self.runs = runs
        self.seconds = seconds
        self.minutes = minutes
    }
}

/// One call: when it began, in seconds from the first, and how long it took.
public struct TimedCall: Equatable, Sendable {
    public let start: Double
    public let ms: Double

    public init(start: Double, ms: Double) {
        self.start = start
        self.ms = ms
    }
}

/// The medians of equal spans of time, for a plot; a span in which no call began has none.
public func medians(of calls: [TimedCall], spans: Int) -> [TimedCall] {
    let end = calls.last.map { $0.start + $0.ms / 1e3 } ?? 0
    let length = end / Double(spans)
    let bySpan = Dictionary(grouping: calls) { Int($0.start / length) }
    return bySpan.sorted { $0.key < $1.key }.map { span, calls in
        TimedCall(start: Double(span) * length, ms: median(calls.map(\.ms)))
    }
}

/// The timing protocol, over calls and a clock.
public struct Timing {
    /// Nanoseconds.
    public typealias Clock = () -> UInt64

    /// A warm-up window: long enough for a processor's clock to ramp up, and for a median of many short calls.
    static let window = 0.2
    /// Warm when the median of a window is this close, relatively, to that of the one before.
    static let steady = 0.05
    static let warmUpLimit = 10.0
    static let limit = 60.0
    /// Fewer calls than these say nothing, however long they take.
    static let fewest = 20

    public static let uptime: Clock = { DispatchTime.now().uptimeNanoseconds }

    let call: () throws -> Void
    let clock: Clock

    public init(clock: @escaping Clock = Timing.uptime, call: @escaping () throws -> Void) {
        self.call = call
        self.clock = clock
    }

    /// Calls until the medians of two neighbouring windows agree; whether they did before the time was over.
    public func warmUp() throws -> Bool {
        let begin = clock()
        var before = try windowMedian()
        while true {
            let after = try windowMedian()
            if abs(after - before) <= Timing.steady * before { return true }
            if seconds(since: begin) >= Timing.warmUpLimit { return false }
            before = after
        }
    }

    /// Calls until there are `runs` and `seconds` are over.
    public func measure(_ plan: TimingPlan) throws -> [TimedCall] {
        try calls { count, elapsed in
            (count >= plan.runs && elapsed >= plan.seconds) || (elapsed >= Timing.limit && count >= Timing.fewest)
        }
    }

    /// Calls for so many minutes.
    public func sustain(minutes: Double) throws -> [TimedCall] {
        try calls { _, elapsed in elapsed >= 60 * minutes }
    }

    private func windowMedian() throws -> Double {
        median(try calls { count, elapsed in count > 0 && elapsed >= Timing.window }.map(\.ms))
    }

    private func calls(until done: (_ count: Int, _ elapsed: Double) -> Bool) throws -> [TimedCall] {
        let begin = clock()
        var calls: [TimedCall] = []
        while !done(calls.count, seconds(since: begin)) {
            try Task.checkCancellation()
            let start = clock()
            try call()
            calls.append(TimedCall(start: Double(start - begin) / 1e9, ms: Double(clock() - start) / 1e6))
        }
        return calls
    }

    private func seconds(since begin: UInt64) -> Double {
        Double(clock() - begin) / 1e9
    }
}
