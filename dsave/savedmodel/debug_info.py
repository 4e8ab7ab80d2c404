"""`debug/saved_model_debug_info.pb`: the user's lines that made each node of each function.

Twice, since each reader reads one form: TensorFlow's Python takes whole stacks from `traces`
only, its C++ also ids from `name_to_trace_id`, by which TensorFlow itself writes. Keys are
`NODE@FUNCTION`; a second `@` would keep the model from loading, and no name here has one.

    files                                   the names of files, once each
    frames_by_id, traces_by_id              calls, and stacks of them, oldest first, once each
    name_to_trace_id                        key -> stack
    traces                                  key -> stack, written out

Format: tensorflow/core/framework/graph_debug_info.proto.
"""

from collections.abc import Mapping

from dsave.functions.graph import Frame
from dsave.proto.graph_pb2 import FunctionDefLibrary, GraphDebugInfo
from dsave.savedmodel.function_def import Stack


def build_debug_info(
    library: FunctionDefLibrary, stacks: Mapping[str, Mapping[str, Stack]], caller: Stack
) -> bytes:
    """The serialized GraphDebugInfo of a library.

    `stacks` are those of nodes by function and node; others were made by the save, which
    `caller` called.
    """
    proto = GraphDebugInfo()
    files: dict[str, int] = {}
    frames: dict[Frame, int] = {}
    traces: dict[Stack, int] = {}
    for function in library.function:
        known = stacks.get(function.signature.name, {})
        arguments = [argument.name for argument in function.signature.input_arg]
        for name in (*arguments, *(node.name for node in function.node_def)):
            key = f"{name}@{function.signature.name}"
            stack = known.get(name, caller)
            proto.name_to_trace_id[key] = traces.setdefault(stack, len(traces))
            for frame in stack:
                frames.setdefault(frame, len(frames))
                files.setdefault(frame.file, len(files))
                _set_frame(proto.traces[key].file_line_cols.add(), frame, files)
    proto.files.extend(files)
    for frame, number in frames.items():
        _set_frame(proto.frames_by_id[number], frame, files)
    for stack, number in traces.items():
        proto.traces_by_id[number].frame_id.extend(frames[frame] for frame in stack)
    return proto.SerializeToString(deterministic=True)


def _set_frame(
    proto: GraphDebugInfo.FileLineCol, frame: Frame, files: Mapping[str, int]
) -> None:
    # Presence is explicit in this message: a zero is written.
    proto.file_index = files[frame.file]
    proto.line = frame.line
    proto.func = frame.function
