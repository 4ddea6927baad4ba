import Foundation

/// A `result.json`.
public struct BenchmarkResult: Encodable, Sendable {
    let schema = 1
    let edgevit: String
    let exportDigest: String
    let model: String
    let quant: String
    let created: String
    let app = "ios"
    public let device: Device
    public let runtime: RuntimeUsed
    /// Neither Core ML nor ExecuTorch's Swift interface lets an app choose how many.
    @Null public var threads: Int? = nil
    public let parity: Parity
    @Null public var latency: Latency?
    @Null public var start: Start?
    @Null public var memory: Double?
    @Null public var sustained: Sustained?
    @Null public var thermal: Thermal?

    enum CodingKeys: String, CodingKey {
        case schema, edgevit, model, quant, created, app, device, runtime, threads, parity, latency, start, sustained
        case thermal
        case exportDigest = "export_sha256"
        case memory = "memory_mb"
    }

    /// As JSON, with every field of it.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self)
    }

    /// What is written in its place where there is no result.
    public static func json(of error: any Error) throws -> Data {
        try JSONEncoder().encode(["error": error.localizedDescription])
    }
}

/// What it ran on.
public struct Device: Encodable, Sendable {
    public let name: String
    public let os: String
    @Null public var soc: String?
    public let arch: String
    public let cores: Int
    @Null public var emulated: String?

    public init(name: String, os: String, soc: String?, arch: String, cores: Int, emulated: String?) {
        self.name = name
        self.os = os
        self.soc = soc
        self.arch = arch
        self.cores = cores
        self.emulated = emulated
    }
}

/// What it ran by.
public struct RuntimeUsed: Encodable, Sendable {
    public let name: String
    public let version: String
    public let delegate: String

    public init(name: String, version: String, delegate: String) {
        self.name = name
        self.version = version
        self.delegate = delegate
    }
}

/// How near the logits of the reference input came to those of the host: `sqnr` is nil where they are not finite.
public struct Parity: Encodable, Sendable {
    @Null public var sqnr: Double?
    public let minimumSQNR: Double
    public let topMatches: Bool
    public let holds: Bool

    public init(reference: [Float], output: [Float], minimumSQNR: Double) throws {
        guard output.count == reference.count else {
            throw Problem("the model gave \(output.count) logits for \(reference.count) classes: export it again")
        }
        guard reference.contains(where: { $0 != 0 }) else {
            throw Problem("the reference logits are all zero, so nothing compares with them: check the weights")
        }
        self.minimumSQNR = minimumSQNR
        guard output.allSatisfy(\.isFinite) else {
            (sqnr, topMatches, holds) = (nil, false, false)
            return
        }
        let found = EdgeViTCore.sqnr(reference: reference.map { Double($0) }, output: output.map { Double($0) })
        sqnr = found
        topMatches = top(1, of: reference) == top(1, of: output)
        holds = topMatches && found >= minimumSQNR
    }

    enum CodingKeys: String, CodingKey {
        case holds
        case sqnr = "sqnr_db"
        case minimumSQNR = "min_sqnr_db"
        case topMatches = "top1_matches"
    }
}

/// How long calls take; `spread` is (p75 - p25) / p50, `steady` whether the warm-up ended by itself.
public struct Latency: Encodable, Equatable, Sendable {
    public let runs: Int
    public let p50: Double
    public let p90: Double
    public let p99: Double
    public let least: Double
    public let spread: Double
    public let steady: Bool

    public init(times: [Double], steady: Bool) {
        let sorted = times.sorted()
        runs = times.count
        p50 = percentile(50, of: sorted)
        p90 = percentile(90, of: sorted)
        p99 = percentile(99, of: sorted)
        least = sorted[0]
        spread = (percentile(75, of: sorted) - percentile(25, of: sorted)) / p50
        self.steady = steady
    }

    enum CodingKeys: String, CodingKey {
        case runs, spread, steady
        case p50 = "p50_ms"
        case p90 = "p90_ms"
        case p99 = "p99_ms"
        case least = "min_ms"
    }
}

/// How long until a first answer.
public struct Start: Encodable, Sendable {
    public let load: Double
    public let first: Double

    enum CodingKeys: String, CodingKey {
        case load = "load_ms"
        case first = "first_ms"
    }
}

/// Whether it stays as fast.
public struct Sustained: Encodable, Equatable, Sendable {
    public let minutes: Double
    public let calls: Int
    public let firstMinute: Double
    public let lastMinute: Double

    public init(minutes: Double, calls: [TimedCall]) {
        let end = calls.map { $0.start + $0.ms / 1e3 }.max() ?? 0
        self.minutes = minutes
        self.calls = calls.count
        firstMinute = median(calls.filter { $0.start < 60 }.map(\.ms))
        lastMinute = median(calls.filter { $0.start + $0.ms / 1e3 > end - 60 }.map(\.ms))
    }

    enum CodingKeys: String, CodingKey {
        case minutes, calls
        case firstMinute = "first_minute_p50_ms"
        case lastMinute = "last_minute_p50_ms"
    }
}

/// The system's word on its heat, before and after.
public struct Thermal: Encodable, Sendable {
    public let before: State
    public let after: State

    public enum State: String, Encodable, Sendable {
        case nominal, fair, serious, critical

        public func encode(to encoder: any Encoder) throws {
            try ["state": rawValue].encode(to: encoder)
        }
    }
}

/// A field that is written as null where there is nothing, not left out.
@propertyWrapper
public struct Null<Value: Encodable & Sendable>: Encodable, Sendable {
    public var wrappedValue: Value?

    public init(wrappedValue: Value?) {
        self.wrappedValue = wrappedValue
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue {
            try container.encode(wrappedValue)
        } else {
            try container.encodeNil()
        }
    }
}
