"""Compilation with its fallback, and what a machine is told about itself."""

import copy
import platform
import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

from gan_style.runtime import device
from gan_style.runtime.device import (
    advice,
    allocator,
    choose_device,
    compile_network,
    fastest_precision,
    in_full_float32,
    move_to,
)

CPU = torch.device("cpu")


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))


def by_nothing(function):
    """A compiler that calls the function itself."""
    return lambda *arguments, **named: function(*arguments, **named)


def by_failing(function):
    def call(*_, **__):
        raise RuntimeError("\nno C++ compiler found\nand more lines")

    return call


class TestCompiled:
    def test_network_answers_through_the_compiler_and_keeps_its_names(self, monkeypatch, noise):
        calls = []

        def counting(function):
            return lambda *arguments: calls.append(1) or function(*arguments)

        monkeypatch.setattr(torch, "compile", counting)
        network = small_network()
        before, expected = list(network.state_dict()), network(noise(1, 3, 8, 8))
        assert compile_network(network, option="x") is network
        assert torch.equal(network(noise(1, 3, 8, 8)), expected)
        assert calls == [1, 1] and list(network.state_dict()) == before

    def test_one_that_cannot_be_compiled_says_so_once_and_goes_on(self, monkeypatch, noise):
        monkeypatch.setattr(torch, "compile", by_failing)
        network = small_network()
        expected = network(noise(1, 3, 8, 8))
        compile_network(network, option="runtime.compile=true")
        with pytest.warns(UserWarning, match=r"runtime.compile=true: .*\(no C\+\+ compiler found\); going on without"):
            first = network(noise(1, 3, 8, 8))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = network(noise(1, 3, 8, 8))
        assert torch.equal(first, expected) and torch.equal(again, expected)

    def test_one_whose_backward_cannot_be_compiled_goes_on_too(self, monkeypatch, noise):
        class FailsBackward(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                raise RuntimeError("replication_pad2d_backward: expected other strides")

        monkeypatch.setattr(torch, "compile", lambda function: lambda *options: FailsBackward.apply(function(*options)))
        network, plain = small_network(), small_network()
        plain.load_state_dict(network.state_dict())
        compile_network(network, option="x")
        with pytest.warns(UserWarning, match=r"replication_pad2d_backward.*going on without"):
            network(noise(1, 3, 8, 8)).sum().backward()
        plain(noise(1, 3, 8, 8)).sum().backward()
        for ours, expected in zip(network.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours.grad, expected.grad)

    def test_a_lack_of_memory_is_no_failure_to_compile(self, monkeypatch, noise):
        def short(_):
            def call(*_, **__):
                raise torch.OutOfMemoryError("CUDA out of memory")

            return call

        monkeypatch.setattr(torch, "compile", short)
        network = compile_network(small_network(), option="x")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(torch.OutOfMemoryError):
                network(noise(1, 3, 8, 8))

    def test_one_s_copy_is_a_network_of_its_own(self, monkeypatch, noise):
        monkeypatch.setattr(torch, "compile", by_nothing)
        network = compile_network(small_network(), option="x")
        clone = copy.deepcopy(network)
        with torch.no_grad():
            next(clone.parameters()).zero_()
        assert not torch.equal(clone(noise(1, 3, 8, 8)), network(noise(1, 3, 8, 8)))

    @pytest.mark.slow  # a compilation takes half a minute on a CPU
    def test_generator_paints_and_learns_the_same(self, noise):
        from gan_style.models.generator import ResnetGenerator

        torch.manual_seed(0)
        generator = move_to(ResnetGenerator(width=8, blocks=1), CPU)
        weights, images = list(generator.parameters()), noise(1, 3, 32, 32)
        expected: Tensor = generator(images)
        gradients = torch.autograd.grad(expected.square().sum(), weights)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            result = compile_network(generator, option="x")(images)
            learnt = torch.autograd.grad(result.square().sum(), weights)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(learnt, gradients, rtol=1e-2, atol=1e-3)


class TestDevice:
    def test_auto_goes_on_with_the_cpu_where_torch_has_no_code_for_the_gpu(self, monkeypatch):
        def on_gpu(*_, device):
            if torch.device(device).type == "cuda":
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.zeros(1)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(device.torch, "ones", on_gpu)
        with pytest.warns(UserWarning, match="runtime.device=auto goes on with cpu: .*no kernel image"):
            assert choose_device("auto", None) == CPU
        with pytest.raises(ValueError, match=r"runtime.device=cuda cannot be used here \(CUDA error: no kernel"):
            choose_device("cuda", None)

    def test_full_float32_is_no_tf32(self):
        before = torch.backends.cudnn.allow_tf32
        try:
            torch.backends.cudnn.allow_tf32 = True
            in_full_float32()
            assert not torch.backends.cudnn.allow_tf32
            assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        finally:
            torch.backends.cudnn.allow_tf32 = before


class TestAdvice:
    def test_names_a_type_that_the_gpu_emulates(self, monkeypatch):
        for real, count in ((False, 1), (True, 0)):
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, real=real: real)
            assert len(list(advice(torch.device("cuda"), torch.bfloat16))) == count

    def test_names_a_type_that_the_cpu_emulates(self, monkeypatch):
        for flag, count in ((False, 1), (True, 0)):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flag=flag: {"avx512_bf16": flag}, raising=False)
            messages = [item for item in advice(CPU, torch.bfloat16) if "emulates bfloat16" in item]
            assert len(messages) == count
        assert not any("emulates" in item for item in advice(CPU, torch.float32))

    def test_names_the_faster_type_of_the_cpu(self, monkeypatch):
        for flag, dtype in ((True, torch.bfloat16), (False, torch.float32)):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flag=flag: {"avx512_bf16": flag}, raising=False)
            assert fastest_precision(CPU) == dtype
            assert any("training.precision=auto" in hint for hint in advice(CPU)) == flag
            assert not any("training.precision=auto" in hint for hint in advice(CPU, torch.bfloat16))

    def test_of_a_gpu_is_what_it_does_not_emulate(self, monkeypatch):
        for real, dtype in ((True, torch.bfloat16), (False, torch.float32)):
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, real=real: real)
            assert fastest_precision(torch.device("cuda")) == dtype
        assert fastest_precision(torch.device("mps")) == torch.float32

    def test_counts_threads_and_cores(self, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
        assert "runtime.threads=4 is faster" in next(advice(CPU))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert "OMP_NUM_THREADS=1 lets 3 of 4 cores idle" in next(advice(CPU))
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert list(advice(CPU)) == []

    def test_has_none_for_other_devices(self):
        assert list(advice(torch.device("cuda"), torch.float16)) == []

    def test_allocator_is_one_of_those_known(self):
        assert allocator() in ("jemalloc", "tcmalloc", "mimalloc", "of the system")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of other systems is left as it is")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_is_used_again_without_the_system(keep):
    """Seen by page faults: an array of 64 MB has 16,384 pages."""
    program = f"""
import resource
from gan_style.runtime.machine import keep_freed_memory
assert not {keep} or keep_freed_memory()
fill = lambda: len(b"x" * 2**26)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout) < 1000) == keep
