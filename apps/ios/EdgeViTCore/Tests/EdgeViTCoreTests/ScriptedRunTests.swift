import XCTest

@testable import EdgeViTCore

final class ScriptedRunTests: XCTestCase {
    private func run(_ line: String) throws -> ScriptedRun {
        try ScriptedRun(arguments: line.split(separator: " ").map(String.init))
    }

    func testEveryOption() throws {
        let run = try run(
            "EdgeViT --benchmark --runtime executorch --units cpu-and-ne --threads 1 --runs 100 --seconds 2.5 "
                + "--minutes 3 --result mine.json")
        XCTAssertEqual(run.runtime, .executorch)
        XCTAssertEqual(run.units, .cpuAndNeuralEngine)
        XCTAssertEqual(run.plan, try TimingPlan(runs: 100, seconds: 2.5, minutes: 3))
    }

    func testWithoutOptions() throws {
        let run = try run("EdgeViT --benchmark")
        XCTAssertEqual(run.runtime, .coreml)
        XCTAssertEqual(run.units, .all)
        XCTAssertEqual(run.plan, try TimingPlan(runs: 480, seconds: 5, minutes: 0))
    }

    func testWhatIsNotUnderstoodIsRefused() {
        for line in [
            "--benchmark --runtime onnx", "--benchmark --units gpu", "--benchmark --runs many", "--benchmark --fast",
            "--benchmark --fast yes", "--benchmark --runs", "--benchmark --threads x", "--benchmark --minutes 1",
            "--benchmark --seconds 61",
        ] {
            XCTAssertThrowsError(try run(line), line)
        }
    }

    func testTheResultHasANameInDocumentsWhateverElseIsAsked() {
        XCTAssertEqual(ScriptedRun.resultName(in: ["--benchmark", "--fast", "--result", "mine.json"]), "mine.json")
        XCTAssertEqual(ScriptedRun.resultName(in: ["--benchmark", "--result", "../../mine.json"]), "mine.json")
        XCTAssertEqual(ScriptedRun.resultName(in: ["--benchmark", "--result"]), "result.json")
    }
}
