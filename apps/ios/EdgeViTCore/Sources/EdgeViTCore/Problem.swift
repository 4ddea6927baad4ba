import Foundation

/// What went wrong, as one sentence that names the mend.
public struct Problem: LocalizedError, Equatable {
    public let sentence: String

    public init(_ sentence: String) {
        self.sentence = sentence
    }

    public var errorDescription: String? { sentence }
}
