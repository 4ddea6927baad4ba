import Foundation

/// Parity, latency and heat of one model on this device, by the protocol that all apps share.
public struct Benchmark {
    public enum Phase: String, Sendable {
        case loading, warmingUp = "warming up", timing, sustaining
    }

    let installed: InstalledBundle
    let artifact: ModelBundle.Artifact
    let runtime: RuntimeUsed
    let device: Device
    let thermal: () -> Thermal.State
    let peakMemory: () -> Int
    let clock: Timing.Clock
    let load: () throws -> any Model

    /// `peakMemory` tells the most bytes that this process has held.
    public init(
        installed: InstalledBundle, artifact: ModelBundle.Artifact, runtime: RuntimeUsed, device: Device,
        thermal: @escaping () -> Thermal.State, peakMemory: @escaping () -> Int,
        clock: @escaping Timing.Clock = Timing.uptime, load: @escaping () throws -> any Model
    ) {
        self.installed = installed
        self.artifact = artifact
        self.runtime = runtime
        self.device = device
        self.thermal = thermal
        self.peakMemory = peakMemory
        self.clock = clock
        self.load = load
    }

    /// What is to be told, and the calls that the latency, or the sustained one, is of.
    public func run(
        _ plan: TimingPlan, progress: (Phase) -> Void = { _ in }
    ) throws -> (result: BenchmarkResult, calls: [TimedCall]) {
        let input = try installed.referenceInput()
        let reference = try installed.referenceLogits(of: artifact)
        let heat = thermal()
        let memory = peakMemory()
        progress(.loading)
        let (model, loadTime) = try timed(load)
        let (output, firstTime) = try timed { try model.logits(of: input) }
        let parity = try Parity(reference: reference, output: output, minimumSQNR: artifact.minimumSQNR)
        let timing = Timing(clock: clock) { _ = try model.logits(of: input) }
        progress(.warmingUp)
        let steady = try timing.warmUp()
        progress(.timing)
        let calls = try timing.measure(plan)
        if plan.minutes > 0 { progress(.sustaining) }
        let sustained = try timing.sustain(minutes: plan.minutes)
        let bundle = installed.bundle
        let result = BenchmarkResult(
            edgevit: bundle.edgevit, exportDigest: bundle.exportDigest, model: bundle.model, quant: bundle.quant,
            created: ISO8601DateFormatter().string(from: Date()), device: device, runtime: runtime, parity: parity,
            latency: Latency(times: calls.map(\.ms), steady: steady),
            start: Start(load: loadTime, first: firstTime),
            memory: Double(peakMemory() - memory) / 1e6,
            sustained: plan.minutes == 0 ? nil : Sustained(minutes: plan.minutes, calls: sustained),
            thermal: Thermal(before: heat, after: thermal()))
        return (result, sustained.isEmpty ? calls : sustained)
    }

    private func timed<Value>(_ work: () throws -> Value) rethrows -> (Value, Double) {
        let start = clock()
        let value = try work()
        return (value, Double(clock() - start) / 1e6)
    }
}
