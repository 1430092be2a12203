"""What onnxruntime raises for a file that holds no network it can run: errors without a base in common."""

from onnxruntime.capi import onnxruntime_pybind11_state as errors

NO_NETWORK = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NotImplemented,
    errors.RuntimeException,
)
