import XCTest

@testable import EdgeViTCore

final class GoldenTests: XCTestCase {
    private func golden() throws -> Golden { try Golden.read() }

    func testPreprocessingIsEqualToTheLastBit() throws {
        let golden = try golden()
        let rgb = [UInt8](try Golden.data(golden.image.file))
        let image = Pixels(width: golden.image.width, height: golden.image.height, rgb: rgb)
        XCTAssertEqual(golden.preprocess.count, 6)
        for entry in golden.preprocess {
            let found = entry.preprocess(image).map { $0.bitPattern.littleEndian }.withUnsafeBytes { Data($0) }
            XCTAssertTrue(found == (try Golden.data(entry.tensor)), entry.tensor)
        }
    }

    func testProbabilitiesAndTop() throws {
        let answers = try golden().answers
        XCTAssertEqual(answers.count, 5)
        for answer in answers {
            for (found, wanted) in zip(try softmax(answer.logits), answer.probabilities) {
                XCTAssertEqual(found, wanted, accuracy: 1e-15)
            }
            XCTAssertEqual(top(3, of: try softmax(answer.logits)), answer.top)
        }
    }

    func testPercentiles() throws {
        let percentiles = try golden().percentiles
        XCTAssertEqual(percentiles.count, 4)
        for wanted in percentiles {
            let found = Latency(times: wanted.times_ms, steady: true)
            XCTAssertEqual(found.runs, wanted.times_ms.count)
            for (found, wanted) in [
                (found.p50, wanted.p50_ms), (found.p90, wanted.p90_ms), (found.p99, wanted.p99_ms),
                (found.least, wanted.min_ms), (found.spread, wanted.spread),
            ] {
                XCTAssertEqual(found, wanted, accuracy: 1e-12 * wanted)
            }
        }
    }

    func testWhatIsNotFiniteHasNoProbability() {
        XCTAssertThrowsError(try softmax([1, .nan]))
        XCTAssertThrowsError(try softmax([1, -.infinity]))
    }

    func testParity() throws {
        let pairs = try golden().parity
        XCTAssertEqual(pairs.count, 8)
        for pair in pairs {
            let output = pair.output.map { $0 ?? .nan }
            let found = try Parity(reference: pair.reference, output: output, minimumSQNR: pair.min_sqnr_db)
            XCTAssertEqual(found.sqnr == nil, pair.sqnr_db == nil)
            XCTAssertEqual(found.sqnr ?? 0, pair.sqnr_db ?? 0, accuracy: 1e-9)
            XCTAssertEqual(found.topMatches, pair.top1_matches)
            XCTAssertEqual(found.holds, pair.holds)
        }
    }

    func testBundlesAreReadOrRefusedWithTheirWord() throws {
        let bundles = try Golden.bundles()
        XCTAssertEqual(bundles.count, 14)
        for (json, problem) in bundles {
            if let problem {
                XCTAssertThrowsError(try ModelBundle(json: json), problem) { error in
                    XCTAssertTrue((error as? Problem)?.sentence.contains(problem) == true, "\(error) does not say \(problem)")
                }
            } else {
                XCTAssertEqual(try ModelBundle(json: json).classes, 3)
            }
        }
    }
}
