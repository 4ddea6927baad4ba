import EdgeViTCore
import Foundation

/// A runtime, and the processors that it may use.
struct Choice: Hashable {
    var runtime: Runtime
    /// Core ML's: ExecuTorch's XNNPACK runs on the CPU.
    var units = ComputeUnits.all

    var used: RuntimeUsed {
        switch runtime {
        case .coreml:  // which has no version but that of the system it is part of
            RuntimeUsed(name: runtime.rawValue, version: Device.systemVersion, delegate: units.title)
        case .executorch:
            RuntimeUsed(name: runtime.rawValue, version: ExecuTorchModel.version, delegate: "XNNPACK")
        }
    }
}

extension InstalledBundle {
    static let ofThisApp = Result { try InstalledBundle(folder: Bundle.main.bundleURL.appending(path: "bundle")) }

    /// What loads the model, once its files were compared with their digests and Core ML has compiled it.
    func loader(_ choice: Choice) async throws -> () throws -> any Model {
        let artifact = try artifact(for: choice.runtime)
        try verify(artifact)
        let file = url(of: artifact)
        let shape = bundle.input.shape
        switch choice.runtime {
        case .coreml:
            let compiled = try await CoreMLModel.compiled(file, name: bundle.exportDigest)
            let name = bundle.input.name
            return { try CoreMLModel(compiled: compiled, inputName: name, shape: shape, units: choice.units) }
        case .executorch:
            return { try ExecuTorchModel(file: file, shape: shape) }
        }
    }

    /// Off the main thread, as all that waits here is.
    func benchmark(
        _ choice: Choice, _ plan: TimingPlan, progress: (Benchmark.Phase) -> Void = { _ in }
    ) async throws -> (result: BenchmarkResult, calls: [TimedCall]) {
        let benchmark = Benchmark(
            installed: self, artifact: try artifact(for: choice.runtime), runtime: choice.used, device: .current,
            thermal: { ProcessInfo.processInfo.thermalState.told }, peakMemory: { Device.peakMemory },
            load: try await loader(choice))
        return try benchmark.run(plan, progress: progress)
    }
}
