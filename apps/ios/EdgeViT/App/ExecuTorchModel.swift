import EdgeViTCore
import ExecuTorch
import Foundation

/// A program for XNNPACK, which has one input and gives the logits.
final class ExecuTorchModel: EdgeViTCore.Model {
    /// That of the package that the project links, which tells none itself.
    static let version = "1.5.1"

    private let module: Module
    private let shape: [Int]

    init(file: URL, shape: [Int]) throws {
        module = Module(filePath: file.path)
        self.shape = shape
        try module.load("forward")
    }

    func logits(of input: [Float]) throws -> [Float] {
        let output: Tensor<Float> = try module.forward(Tensor<Float>(input, shape: shape))
        return output.scalars()
    }
}
