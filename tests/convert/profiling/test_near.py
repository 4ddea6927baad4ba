"""Where operators stand that have no name of their own."""

from convert.profiling.near import placed

#  conv → reorder → add → reshape → conv; a side branch that nothing joins
NAMES = ["a", None, None, None, "b", None]
READS = [{"x"}, {"a0"}, {"r0"}, {"s0"}, {"t0"}, {"elsewhere"}]
WRITES = [{"a0"}, {"r0"}, {"s0"}, {"t0"}, {"y"}, {"nowhere"}]


def test_the_nearer_module_names_it_and_before_wins_a_tie() -> None:
    assert placed(NAMES, READS, WRITES) == ["a", "after a", "before b", "before b", "b", ""]


def test_an_operator_looks_along_its_own_edges_and_not_along_the_order() -> None:
    reads = [{"x"}, {"a0"}, {"x"}]
    assert placed(["a", None, "b"], reads, [{"a0"}, {"r0"}, {"b0"}]) == ["a", "after a", "b"]


def test_of_several_readers_the_first_names_it() -> None:
    reads: list[set[str]] = [set(), {"s0"}, {"s0"}]
    assert placed([None, "a", "b"], reads, [{"s0"}, {"a0"}, {"b0"}]) == ["before a", "a", "b"]
