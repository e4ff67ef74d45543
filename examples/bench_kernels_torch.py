"""PyTorch's times for the kernels of bench_kernels.rs, by the same names: bench_kernels_torch.py [FILTER] [THREADS] [BATCH].

Each is timed in both memory layouts where there are two and the faster one is printed. Run it with
MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456, so that it keeps its memory."""
import statistics, sys, time
import torch, torch.nn.functional as F

arg = lambda i, default: sys.argv[i] if len(sys.argv) > i else default
FILTER, THREADS, N = arg(1, ""), int(arg(2, 1)), int(arg(3, 64))
torch.set_num_threads(THREADS)
clock = time.thread_time if THREADS == 1 else time.perf_counter


def times(f):
    f(), f()
    v, end = [], time.perf_counter() + 0.4
    while time.perf_counter() < end or len(v) < 7:
        t = clock()
        f()
        v.append(clock() - t)
    return statistics.median(v), min(v)


def run(name, flops, *variants):
    if FILTER in name:
        median, low = min(times(f) for f in variants)
        rate = f"\t{flops / median / 1e9:6.1f} GFLOP/s" if flops else ""
        print(f"{name:24}\t{median * 1e3:8.3f} ms (min {low * 1e3:8.3f}){rate}", flush=True)


def backward(make, *inputs):
    y = make()
    g = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, g, retain_graph=True)


def quiet(f):
    def g():
        with torch.no_grad():
            f()
    return g


FORMATS = (torch.contiguous_format, torch.channels_last)
LAYERS = [("r20 stem", 3, 16, 32, 3, 1, 1), ("r20 s1", 16, 16, 32, 3, 1, 1), ("r20 s2", 32, 32, 16, 3, 1, 1), ("r20 s3", 64, 64, 8, 3, 1, 1),
          ("r20 s1-2 /2", 16, 32, 32, 3, 2, 1), ("r18 s1", 64, 64, 32, 3, 1, 1), ("r18 s2", 128, 128, 16, 3, 1, 1), ("r18 s3", 256, 256, 8, 3, 1, 1),
          ("r18 s4", 512, 512, 4, 3, 1, 1), ("r18 1x1/2", 64, 128, 32, 1, 2, 0), ("lenet c1", 1, 6, 32, 5, 1, 0), ("lenet c2", 6, 16, 14, 5, 1, 0),
          ("lenet c3", 16, 120, 5, 5, 1, 0), ("r50 stem", 3, 64, 224, 7, 2, 3), ("r50 64-256x56", 64, 256, 56, 1, 1, 0), ("r50 256-64x56", 256, 64, 56, 1, 1, 0),
          ("r50 64x56", 64, 64, 56, 3, 1, 1), ("r50 128x28", 128, 128, 28, 3, 1, 1), ("r50 128x56 /2", 128, 128, 56, 3, 2, 1), ("r50 256-512x56 /2", 256, 512, 56, 1, 2, 0),
          ("r50 512-128x28", 512, 128, 28, 1, 1, 0), ("r50 256-1024x14", 256, 1024, 14, 1, 1, 0), ("r50 256x14", 256, 256, 14, 3, 1, 1),
          ("r50 2048-512x7", 2048, 512, 7, 1, 1, 0), ("r50 512x7", 512, 512, 7, 3, 1, 1), ("mb2 stem", 3, 32, 224, 3, 2, 1),
          ("mb2 16-96x112", 16, 96, 112, 1, 1, 0), ("mb2 144-24x56", 144, 24, 56, 1, 1, 0), ("mb2 384-64x14", 384, 64, 14, 1, 1, 0),
          ("unet 64-32x64", 64, 32, 64, 3, 1, 1)]
for name, i, o, h, k, s, p in LAYERS:
    if not any(FILTER in f"{name} {d}" for d in ("fwd", "bwd-data", "bwd-weight")):
        continue
    for suffix, dtype in (("", torch.float32), (" bf16", torch.bfloat16)):
        fwd, data, weight, flops = [], [], [], 0
        for fmt in FORMATS:
            x, w = (torch.randn(*shape).to(dtype, memory_format=fmt) for shape in ((N, i, h, h), (o, i, k, k)))
            y = F.conv2d(x, w, None, s, p)
            g, flops = torch.randn_like(y), 2 * y.numel() * i * k * k
            back = lambda mask, g=g, x=x, w=w: lambda: torch.ops.aten.convolution_backward(g, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], 1, mask)
            fwd.append(lambda x=x, w=w: F.conv2d(x, w, None, s, p))
            data.append(back([True, False, False]))
            weight.append(back([False, True, False]))
        run(f"{name} fwd{suffix}", flops, *fwd)
        run(f"{name} bwd-data{suffix}", flops, *data)
        run(f"{name} bwd-weight{suffix}", flops, *weight)

GROUPED = [("dw 144x56", 144, 56, 3, 1, 144), ("dw 144x56 /2", 144, 56, 3, 2, 144),
           ("dw 576x14 /2", 576, 14, 3, 2, 576), ("dw5 96x28 /2", 96, 28, 5, 2, 96), ("dw 192x28", 192, 28, 3, 1, 192), ("dw 576x14", 576, 14, 3, 1, 576),
           ("dw 960x7", 960, 7, 3, 1, 960), ("dw5 240x14", 240, 14, 5, 1, 240), ("dw7 96x56", 96, 56, 7, 1, 96), ("x32 128x56", 128, 56, 3, 1, 32),
           ("x32 512x14", 512, 14, 3, 1, 32)]
for name, c, h, k, s, groups in GROUPED:
    if not any(FILTER in f"{name} {d}" for d in ("fwd", "bwd")):
        continue
    fwd, bwd, flops = [], [], 0
    for fmt in FORMATS:
        x, w = torch.randn(N, c, h, h).to(memory_format=fmt), torch.randn(c, c // groups, k, k).to(memory_format=fmt)
        y = F.conv2d(x, w, None, s, k // 2, 1, groups)
        g, flops = torch.randn_like(y), 2 * y.numel() * c // groups * k * k
        fwd.append(lambda x=x, w=w: F.conv2d(x, w, None, s, k // 2, 1, groups))
        bwd.append(lambda g=g, x=x, w=w: torch.ops.aten.convolution_backward(
            g, x, w, None, [s, s], [k // 2] * 2, [1, 1], False, [0, 0], groups, [True, True, False]))
    run(f"{name} fwd", flops, *fwd)
    run(f"{name} bwd", 2 * flops, *bwd)


def images(name, make, *shapes, flops=0):
    """A function of an image and parameters, in both layouts."""
    fwd, bwd = [], []
    for fmt in FORMATS:
        args = [torch.randn(s) for s in shapes]
        args = [(a.to(memory_format=fmt) if a.dim() == 4 else a).requires_grad_() for a in args]
        f = lambda args=args: make(*args)
        fwd.append(quiet(f))
        bwd.append(backward(f, *args))
    run(f"{name} fwd", flops, *fwd)
    run(f"{name} bwd", 2 * flops, *bwd)


images("conv transpose unet", lambda x, w, b: F.conv_transpose2d(x, w, b, 2), (N, 64, 16, 16), (64, 32, 2, 2), (32,),
       flops=2 * N * 64 * 256 * 32 * 4)
for mode in ("nearest", "bilinear"):
    images(f"{mode} 64x16", lambda x: F.interpolate(x, (32, 32), mode=mode), (N, 64, 16, 16))
images("adaptive avg 64x16", lambda x: F.adaptive_avg_pool2d(x, 7), (N, 64, 16, 16))
images("adaptive max 64x16", lambda x: F.adaptive_max_pool2d(x, 7), (N, 64, 16, 16))
images("group norm 32 96x28", lambda x, g, b: F.group_norm(x, 32, g, b), (N, 96, 28, 28), (96,), (96,))
images("instance norm 96x28", lambda x, g, b: F.instance_norm(x, None, None, g, b), (N, 96, 28, 28), (96,), (96,))
images("layer norm 2d 96x28", lambda x, g, b: F.layer_norm(x.permute(0, 2, 3, 1), (96,), g, b).permute(0, 3, 1, 2), (N, 96, 28, 28), (96,), (96,))
images("rms norm", lambda x, g: F.rms_norm(x, (96,), g), (N * 784, 96), (96,))

if any(FILTER in f"embedding 10000x256 {d}" for d in ("fwd", "bwd")):
    table, index = torch.randn(10_000, 256, requires_grad=True), torch.arange(N * 128) * 7919 % 10_000
    run("embedding 10000x256 fwd", 0, quiet(lambda: F.embedding(index, table)))
    run("embedding 10000x256 bwd", 0, backward(lambda: F.embedding(index, table), table))

PRODUCTS = [("mlp l1 fwd", 64, 784, 512, 0, 1), ("mlp l1 dw", 512, 64, 784, 1, 0), ("mlp l2 fwd", 64, 512, 256, 0, 1), ("mlp l2 dx", 64, 256, 512, 0, 0),
            ("mlp l2 dw", 256, 64, 512, 1, 0), ("mlp l3 fwd", 64, 256, 10, 0, 1), ("mlp l3 dx", 64, 10, 256, 0, 0), ("vit qkv fwd", 4160, 192, 576, 0, 1),
            ("vit mlp fwd", 4160, 192, 768, 0, 1), ("vit mlp dx", 4160, 768, 192, 0, 0), ("vit mlp dw", 768, 4160, 192, 1, 0), ("lm ffn fwd", 4096, 256, 1024, 0, 1),
            ("lm head fwd", 4096, 256, 10_000, 0, 1), ("square 256", 256, 256, 256, 0, 0), ("square 512", 512, 512, 512, 0, 0),
            ("square 1024", 1024, 1024, 1024, 0, 0), ("large 3072x1024", 3072, 1024, 1024, 0, 1)]
for name, m, k, n, ta, tb in PRODUCTS:
    a = torch.randn(k, m).t() if ta else torch.randn(m, k)
    b = torch.randn(n, k).t() if tb else torch.randn(k, n)
    c = torch.empty(m, n)
    run(name, 2 * m * k * n, lambda: torch.mm(a, b, out=c))
    # Operands and result as bf16 in memory, and as f32 that are cast on their way.
    half_a, half_b, half_c = a.bfloat16(), b.bfloat16(), c.bfloat16()
    run(f"{name} bf16", 2 * m * k * n, lambda: torch.mm(half_a, half_b, out=half_c))
    run(f"{name} bf16, cast", 2 * m * k * n, lambda: c.copy_(torch.mm(a.bfloat16(), b.bfloat16())))

for c, s in [(16, 32), (32, 16), (64, 8), (64, 32), (512, 4)]:
    if not any(FILTER in f"bn {c}x{s}x{s} {d}" for d in ("relu fwd", "relu bwd", "add relu fwd", "add relu bwd")):
        continue
    all_ = {"relu": ([], []), "add relu": ([], [])}
    for fmt in FORMATS:
        x, r = (torch.randn(N, c, s, s).to(memory_format=fmt).requires_grad_() for _ in range(2))
        g, b = (torch.rand(c, requires_grad=True) for _ in range(2))
        m, v = torch.zeros(c), torch.ones(c)
        relu = lambda x=x, g=g, b=b, m=m, v=v: F.relu(F.batch_norm(x, m, v, g, b, True))
        both = lambda x=x, g=g, b=b, m=m, v=v, r=r: F.relu(F.batch_norm(x, m, v, g, b, True) + r)
        for what, f, ins in (("relu", relu, (x, g, b)), ("add relu", both, (x, g, b, r))):
            all_[what][0].append(quiet(f))
            all_[what][1].append(backward(f, *ins))
    for what in all_:
        run(f"bn {c}x{s}x{s} {what} fwd", 0, *all_[what][0])
        run(f"bn {c}x{s}x{s} {what} bwd", 0, *all_[what][1])

x, g, b = torch.randn(N * 65, 192, requires_grad=True), torch.rand(192, requires_grad=True), torch.rand(192, requires_grad=True)
norm = lambda: F.layer_norm(x, (192,), g, b)
run("layer norm fwd", 0, quiet(norm))
run("layer norm bwd", 0, backward(norm, x, g, b))
qkv = torch.randn(N, 65, 3, 3, 64, requires_grad=True)


def attention():
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, 65, 192)


flops = 4 * N * 3 * 65 * 65 * 64
run("attention fwd", flops, quiet(attention))
run("attention bwd", 2.5 * flops, backward(attention, qkv))

for name, kind in [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("rnn", torch.nn.RNN)]:
    net, seq = kind(256, 256, batch_first=True), torch.randn(N, 64, 256, requires_grad=True)

    def step(net=net, seq=seq):
        y = net(seq)[0]
        y.backward(y.detach())

    run(f"{name} 64x256 fwd + bwd", 12 * 64 * N * 256 * net.weight_ih_l0.shape[0], step)

MAP, TOKENS = (N, 16, 32, 32), (N * 65, 2 * 768)
ACTIVATIONS = [("relu", F.relu), ("leaky relu", F.leaky_relu), ("relu6", F.relu6), ("elu", F.elu), ("gelu tanh", lambda x: F.gelu(x, approximate="tanh")),
               ("silu", F.silu), ("mish", F.mish), ("hardswish", F.hardswish), ("hardsigmoid", F.hardsigmoid), ("softplus", F.softplus),
               ("log sigmoid", F.logsigmoid), ("softsign", F.softsign), ("sigmoid", torch.sigmoid), ("tanhshrink", F.tanhshrink),
               ("softshrink", F.softshrink), ("hardshrink", F.hardshrink), ("tanh", torch.tanh)]


def swiglu(x):
    a, b = x.chunk(2, -1)
    return F.silu(a) * b


slopes = torch.rand(16, requires_grad=True)
for name, f, shape, *more in [("tanh lenet", torch.tanh, (N, 6, 28, 28)), ("gelu vit", F.gelu, (N * 65, 768)),
                              *((f"{name} r20", f, MAP) for name, f in ACTIVATIONS),
                              ("prelu r20", lambda x: F.prelu(x, slopes), MAP, slopes), ("glu vit", F.glu, TOKENS), ("swiglu vit", swiglu, TOKENS)]:
    if not any(FILTER in f"{name} {d}" for d in ("fwd", "bwd")):
        continue
    a = (3 * torch.rand(*shape) * 2 - 3).requires_grad_()
    run(f"{name} fwd", 0, quiet(lambda: f(a)))
    run(f"{name} bwd", 0, backward(lambda: f(a), a, *more))
p = torch.randn(N, 6, 28, 28, requires_grad=True)
for name, f in [("avg pool lenet", lambda: F.avg_pool2d(p, 2)), ("max pool lenet", lambda: F.max_pool2d_with_indices(p, 2)[0])]:
    run(f"{name} fwd", 0, quiet(f))
    run(f"{name} bwd", 0, backward(f, p))
logits, target = torch.randn(N, 10, requires_grad=True), torch.full((N,), 3)
run("cross entropy fwd + bwd", 0, lambda: torch.autograd.grad(F.cross_entropy(logits, target), logits))
params = [torch.nn.Parameter(torch.randn(s)) for s in [(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)]]
sgd = torch.optim.SGD(params, lr=1e-3, momentum=0.9)
for q in params:
    q.grad = torch.randn_like(q)
run("sgd mlp", 0, sgd.step)
