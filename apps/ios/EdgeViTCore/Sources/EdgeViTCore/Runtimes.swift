/// The runtimes that this app has.
public enum Runtime: String, CaseIterable, Identifiable, Sendable {
    case coreml, executorch

    public var id: Self { self }

    /// As people call it.
    public var title: String { self == .coreml ? "Core ML" : "ExecuTorch" }
}

/// The processors that Core ML may use.
public enum ComputeUnits: String, CaseIterable, Identifiable, Sendable {
    case all, cpu
    case cpuAndGPU = "cpu-and-gpu"
    case cpuAndNeuralEngine = "cpu-and-ne"

    public var id: Self { self }

    /// As people call them.
    public var title: String {
        switch self {
        case .all: "CPU, GPU and Neural Engine"
        case .cpu: "CPU"
        case .cpuAndGPU: "CPU and GPU"
        case .cpuAndNeuralEngine: "CPU and Neural Engine"
        }
    }
}

/// A model that was loaded.
public protocol Model: AnyObject {
    /// `[classes]`, of an input of `[1, 3, S, S]` in that order.
    func logits(of input: [Float]) throws -> [Float]
}
