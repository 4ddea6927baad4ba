import Foundation

/// A `bundle.json`: the models of an export, how their input is prepared, and what they gave on the host.
public struct ModelBundle: Decodable, Sendable {
    public let edgevit: String
    public let exportDigest: String
    public let model: String
    public let quant: String
    public let input: Input
    public let classes: Int
    /// A name a class.
    public let labels: [String]?
    public let preprocess: Preprocess
    /// The reference input.
    public let reference: Reference
    /// By the name of the runtime.
    public let models: [String: Artifact]

    public struct Input: Decodable, Sendable {
        public let name: String
        public let shape: [Int]
    }

    /// A file of float32 numbers, little-endian.
    public struct Reference: Decodable, Sendable {
        public let file: String
        public let sha256: String
    }

    /// A model for one runtime.
    public struct Artifact: Decodable, Sendable {
        /// A file, or a folder.
        public let path: String
        /// SHA-256 by path of every file of it.
        public let files: [String: String]
        public let bytes: Int
        /// What it gave for the reference input on the host that exported it.
        public let reference: Reference
        public let minimumSQNR: Double

        enum CodingKeys: String, CodingKey {
            case path, files, bytes, reference
            case minimumSQNR = "min_sqnr_db"
        }
    }

    enum CodingKeys: String, CodingKey {
        case edgevit, model, quant, input, classes, labels, preprocess, reference, models
        case exportDigest = "export_sha256"
    }

    /// Refuses, in one sentence, what an app cannot run.
    public init(json: Data) throws {
        let decoder = JSONDecoder()
        do {
            let schema = try decoder.decode(Schema.self, from: json).schema
            guard schema == 1 else {
                throw Problem("bundle.json has schema \(schema), and this app reads 1: build the app that came with it")
            }
            self = try decoder.decode(ModelBundle.self, from: json)
        } catch let error as DecodingError {
            throw Problem("bundle.json is not what edgevit bundle writes (\(error.place)): run edgevit bundle again")
        }
        try check()
    }

    /// The name of a class, or its number.
    public func label(of category: Int) -> String {
        labels?[category] ?? "class \(category)"
    }

    /// How many numbers an input has.
    public var inputCount: Int { input.shape.reduce(1, *) }

    private func check() throws {
        guard labels == nil || labels?.count == classes else {
            throw refusal("there are \(labels?.count ?? 0) labels for \(classes) classes")
        }
        guard input.shape == [1, 3, preprocess.crop, preprocess.crop] else {
            throw refusal("a crop of \(preprocess.crop) pixels does not fill an input of \(input.shape)")
        }
        guard preprocess.resize >= preprocess.crop else {
            throw refusal("a resize to \(preprocess.resize) pixels is less than the crop of \(preprocess.crop)")
        }
        guard !models.isEmpty else { throw refusal("models is empty") }
        for path in paths where path.split(separator: "/", omittingEmptySubsequences: false).contains(where: leaves) {
            throw refusal("the path \"\(path)\" leaves the bundle")
        }
    }

    /// Of every file that it names.
    private var paths: [String] {
        [reference.file] + models.values.flatMap { [$0.path, $0.reference.file] + $0.files.keys }
    }

    private func leaves(_ step: Substring) -> Bool {
        ["", ".", ".."].contains(step)
    }

    private struct Schema: Decodable {
        let schema: Int
    }
}

/// A sentence on what is wrong with a `bundle.json`.
func refusal(_ what: String) -> Problem {
    Problem("bundle.json cannot be used, \(what): run edgevit bundle again")
}

extension DecodingError {
    /// What is missing or of another type, such as `models.coreml.path`.
    fileprivate var place: String {
        let (keys, missing): ([CodingKey], CodingKey?) =
            switch self {
            case .keyNotFound(let key, let context): (context.codingPath, key)
            case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
                (context.codingPath, nil)
            @unknown default: ([], nil)
            }
        let path = (keys + [missing].compactMap { $0 }).map(\.stringValue).joined(separator: ".")
        return path.isEmpty ? "no JSON" : path
    }
}
