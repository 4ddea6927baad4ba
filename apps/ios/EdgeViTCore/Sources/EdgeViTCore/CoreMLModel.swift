#if canImport(CoreML)
import CoreML

/// An ML Program with an input `image` and an output `logits`, both float32.
public final class CoreMLModel: Model {
    private let model: MLModel
    private let input: UnsafeMutableBufferPointer<Float>
    private let features: MLDictionaryFeatureProvider

    /// A package as Core ML runs it. Compiled once: it is kept under `name`.
    public static func compiled(_ package: URL, name: String) async throws -> URL {
        let kept = URL.cachesDirectory.appending(path: "\(name).mlmodelc")
        if !FileManager.default.fileExists(atPath: kept.path) {
            let fresh = try await MLModel.compileModel(at: package)
            try FileManager.default.moveItem(at: fresh, to: kept)
        }
        return kept
    }

    /// From what `compiled` gave.
    public init(compiled: URL, inputName: String, shape: [Int], units: ComputeUnits) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units.coreML
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        input = .allocate(capacity: shape.reduce(1, *))
        input.initialize(repeating: 0)
        let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
        let array = try MLMultiArray(
            dataPointer: input.baseAddress!, shape: shape as [NSNumber], dataType: .float32,
            strides: strides as [NSNumber])
        features = try MLDictionaryFeatureProvider(dictionary: [inputName: array])
    }

    deinit {
        input.deallocate()
    }

    public func logits(of values: [Float]) throws -> [Float] {
        guard values.count == input.count else {
            throw Problem("the model takes \(input.count) numbers and was given \(values.count): run edgevit bundle again")
        }
        _ = input.update(fromContentsOf: values)
        let answer = try model.prediction(from: features)
        guard let logits = answer.featureValue(for: "logits")?.multiArrayValue, logits.dataType == .float32 else {
            throw Problem("the model gives no float32 logits: export it without --classifier, and run edgevit bundle again")
        }
        return MLShapedArray<Float>(logits).scalars
    }
}

extension ComputeUnits {
    var coreML: MLComputeUnits {
        switch self {
        case .all: .all
        case .cpu: .cpuOnly
        case .cpuAndGPU: .cpuAndGPU
        case .cpuAndNeuralEngine: .cpuAndNeuralEngine
        }
    }
}
#endif
