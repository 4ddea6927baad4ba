import Foundation

@testable import EdgeViTCore

/// A bundle on disk, of a model that gives three logits for a 2 x 2 image.
struct TestBundle {
    static let input: [Float] = (0..<12).map { Float($0) / 4 }

    var logits: [Float] = [0.5, 4, -1]
    var runtime = "executorch"

    func installed() throws -> InstalledBundle {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try floats(TestBundle.input).write(to: folder.appendingPathComponent("reference.f32"))
        try floats(logits).write(to: folder.appendingPathComponent("logits.f32"))
        let bundle: [String: Any] = [
            "schema": 1, "edgevit": "0.2.0", "export_sha256": "ab12", "model": "tiny", "quant": "int8",
            "input": ["name": "image", "shape": [1, 3, 2, 2]], "classes": 3, "labels": NSNull(),
            "preprocess": [
                "resize": 2, "crop": 2, "interpolation": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1],
                "layout": "NCHW", "colour": "RGB",
            ],
            "reference": ["file": "reference.f32", "sha256": ""],
            "models": [
                runtime: [
                    "path": "model.pte", "files": ["model.pte": ""], "bytes": 0,
                    "reference": ["file": "logits.f32", "sha256": ""], "min_sqnr_db": 30,
                ]
            ],
        ]
        try JSONSerialization.data(withJSONObject: bundle).write(to: folder.appendingPathComponent("bundle.json"))
        return try InstalledBundle(folder: folder)
    }

    private func floats(_ values: [Float]) -> Data {
        values.map { $0.bitPattern.littleEndian }.withUnsafeBytes { Data($0) }
    }
}
