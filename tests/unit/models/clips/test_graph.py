from __future__ import annotations

import json

from models.clips.graph import Clip, ClipGraph, Transition


def test_from_json_returns_the_graph_of_to_json() -> None:
    clips = Clip("", None, 0, 50), Clip("wave", "action", 50, 90)
    graph = ClipGraph(clips, (Transition(30, 90, 6, 55, 1.5), Transition(85, 96, 0, 4, 0.0)), 29.97)
    assert ClipGraph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
