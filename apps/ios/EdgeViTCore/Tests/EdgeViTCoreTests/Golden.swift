import Foundation

@testable import EdgeViTCore

/// What Python computes of the things that every app computes too: `apps/golden`.
struct Golden: Decodable {
    let image: Image
    let preprocess: [Preprocessing]
    let answers: [Answer]
    let percentiles: [Percentiles]
    let parity: [Pair]

    struct Image: Decodable {
        let file: String
        let width: Int
        let height: Int
    }

    struct Preprocessing: Decodable {
        let preprocess: Preprocess
        let tensor: String
    }

    struct Answer: Decodable {
        let logits: [Float]
        let probabilities: [Double]
        let top: [Int]
    }

    struct Percentiles: Decodable {
        let times_ms: [Double]
        let p50_ms: Double
        let p90_ms: Double
        let p99_ms: Double
        let min_ms: Double
        let spread: Double
    }

    struct Pair: Decodable {
        let reference: [Float]
        let output: [Float?]  // without those that are not finite
        let min_sqnr_db: Double
        let sqnr_db: Double?
        let top1_matches: Bool
        let holds: Bool
    }

    static let folder = (1...5).reduce(URL(fileURLWithPath: #filePath)) { path, _ in path.deletingLastPathComponent() }
        .appendingPathComponent("golden")

    static func data(_ name: String) throws -> Data {
        try Data(contentsOf: folder.appendingPathComponent(name))
    }

    static func read() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: data("golden.json"))
    }

    /// The bundles of it, each as JSON, with the word that tells its problem.
    static func bundles() throws -> [(json: Data, problem: String?)] {
        let golden = try JSONSerialization.jsonObject(with: data("golden.json")) as! [String: Any]
        return try (golden["bundles"] as! [[String: Any]]).map { entry in
            (try JSONSerialization.data(withJSONObject: entry["bundle"]!), entry["problem"] as? String)
        }
    }
}
