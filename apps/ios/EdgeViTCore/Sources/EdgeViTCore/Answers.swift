import Foundation

/// The probabilities of the classes, of logits that are finite.
public func softmax(_ logits: [Float]) throws -> [Double] {
    guard logits.allSatisfy(\.isFinite) else {
        throw Problem("the model's answer is not finite here: choose another runtime or other processors")
    }
    let largest = Double(logits.max() ?? 0)
    let powers = logits.map { exp(Double($0) - largest) }
    let total = powers.reduce(0, +)
    return powers.map { $0 / total }
}

/// The `count` classes of the largest values, largest first; of equal ones the lower class first.
public func top<Value: Comparable>(_ count: Int, of values: [Value]) -> [Int] {
    let order = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }
    return Array(order.prefix(count))
}
