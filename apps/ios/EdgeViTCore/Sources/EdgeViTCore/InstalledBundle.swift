import Foundation

/// A `ModelBundle` and the folder that its files lie in.
public struct InstalledBundle: Sendable {
    public let folder: URL
    public let bundle: ModelBundle

    public init(folder: URL) throws {
        let file = folder.appendingPathComponent("bundle.json")
        guard let json = try? Data(contentsOf: file) else {
            throw Problem("This app has no model yet: run edgevit bundle --app ios, and build it again.")
        }
        self.folder = folder
        bundle = try ModelBundle(json: json)
        guard !runtimes.isEmpty else {
            throw Problem(
                "the bundle has no model for Core ML or ExecuTorch: "
                    + "export with --target coreml, and run edgevit bundle again")
        }
    }

    /// The runtimes that it has a model for, of those that this app has.
    public var runtimes: [Runtime] {
        Runtime.allCases.filter { bundle.models[$0.rawValue] != nil }
    }

    public func artifact(for runtime: Runtime) throws -> ModelBundle.Artifact {
        guard let artifact = bundle.models[runtime.rawValue] else {
            throw Problem(
                "the bundle has no model for \(runtime.rawValue): "
                    + "export with --target \(runtime.rawValue), and run edgevit bundle again")
        }
        return artifact
    }

    public func url(of artifact: ModelBundle.Artifact) -> URL {
        folder.appendingPathComponent(artifact.path)
    }

    /// The reference input.
    public func referenceInput() throws -> [Float] {
        try floats(bundle.reference.file, count: bundle.inputCount)
    }

    /// What the artifact gave for the reference input on the host.
    public func referenceLogits(of artifact: ModelBundle.Artifact) throws -> [Float] {
        try floats(artifact.reference.file, count: bundle.classes)
    }

    private func floats(_ file: String, count: Int) throws -> [Float] {
        let data = try Data(contentsOf: folder.appendingPathComponent(file))
        guard data.count == 4 * count else {
            throw Problem("\(file) has \(data.count) bytes and not \(4 * count): run edgevit bundle again")
        }
        return data.withUnsafeBytes { bytes in
            (0..<count).map { index in
                let word = bytes.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: word))
            }
        }
    }
}
