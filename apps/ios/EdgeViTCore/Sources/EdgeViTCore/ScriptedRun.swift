/// A benchmark that was asked for by launch arguments, after `--benchmark`.
public struct ScriptedRun: Equatable, Sendable {
    public static let flag = "--benchmark"
    static let usage =
        "\(flag) takes --runtime coreml|executorch, --units all|cpu|cpu-and-gpu|cpu-and-ne, --threads N, --runs N, "
        + "--seconds S, --minutes 0 or at least 2, and --result NAME"

    public let runtime: Runtime
    public let units: ComputeUnits
    public let plan: TimingPlan

    /// Refuses what it does not know. `--threads` is of the apps' common form, and changes nothing: see
    /// `BenchmarkResult.threads`.
    public init(arguments: [String]) throws {
        let options = try ScriptedRun.options(in: arguments)
        runtime = try parsed(options["--runtime"] ?? "coreml") { Runtime(rawValue: $0) }
        units = try parsed(options["--units"] ?? "all") { ComputeUnits(rawValue: $0) }
        _ = try parsed(options["--threads"] ?? "1") { Int($0) }
        plan = try TimingPlan(
            runs: parsed(options["--runs"] ?? "480") { Int($0) },
            seconds: parsed(options["--seconds"] ?? "5") { Double($0) },
            minutes: parsed(options["--minutes"] ?? "0") { Double($0) })
    }

    /// The name of the file for the result, which there is even where the other arguments are refused.
    public static func resultName(in arguments: [String]) -> String {
        guard let flag = arguments.firstIndex(of: "--result"), flag + 1 < arguments.count else { return "result.json" }
        return arguments[flag + 1].split(separator: "/").last.map(String.init) ?? "result.json"
    }

    private static func options(in arguments: [String]) throws -> [String: String] {
        let known = ["--runtime", "--units", "--threads", "--runs", "--seconds", "--minutes", "--result"]
        var rest = arguments.drop { $0 != flag }.dropFirst()
        var options: [String: String] = [:]
        while let option = rest.popFirst() {
            guard known.contains(option), let value = rest.popFirst() else {
                throw Problem("\(option) is not understood: \(usage)")
            }
            options[option] = value
        }
        return options
    }
}

private func parsed<Value>(_ text: String, by parse: (String) -> Value?) throws -> Value {
    guard let value = parse(text) else { throw Problem("\(text) is not understood: \(ScriptedRun.usage)") }
    return value
}
