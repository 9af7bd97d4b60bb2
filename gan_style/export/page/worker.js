// The network, and everything that takes long, beside the page. Messages: {id, kind, ...} -> {id, ...} or {id, error}.

import { enlarged, guided, reduction, smaller, toPlanes } from "./picture.js";

const MOST_PAINTED = 1_500_000; // pixels that the network is given at once; a larger photo's result is enlarged
const BAND = 256; // rows of a result that are made at once
let model, session, ort, runtime, photo, painted;

/** Load the runtime and the model: on the GPU where that works, else on the CPU. */
async function load({ description, gpu }) {
  model = description;
  const adapter = gpu && (await navigator.gpu?.requestAdapter().catch(() => null));
  for (const provider of adapter ? ["webgpu", "wasm"] : ["wasm"]) {
    try {
      ort = await import(`./runtime/ort.${provider}.min.mjs`);
      ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
      ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
      ort.env.logLevel = "error";
      session = await ort.InferenceSession.create("./model.onnx", { executionProviders: [provider] });
      await run({ data: new Uint8ClampedArray(64 * 64 * 4), width: 64, height: 64 }, model.styles.map(() => 0), 1);
      runtime = provider === "webgpu" ? "GPU" : `CPU, ${ort.env.wasm.numThreads} threads`.replace(/\b1 threads/, "1 thread");
      return { runtime };
    } catch (error) {
      if (provider === "wasm") throw new Error(`The model cannot be run here: ${error?.message ?? error}`);
      console.warn(`not on the GPU: ${error?.message ?? error}`);
    }
  }
}

/** The network's result for RGBA bytes: planes in [-1, 1]. Weights: of each style, in sum 1. */
async function run(picture, weights, strength) {
  const image = toPlanes(picture), feeds = { image: new ort.Tensor("float32", image, [1, 3, picture.height, picture.width]) };
  if (model.inputs.includes("styles")) {
    feeds.styles = new ort.Tensor("float32", Float32Array.from(weights, (w) => w * strength), [1, weights.length]);
  }
  const { result } = await session.run(feeds);
  const planes = result.data;
  if (model.inputs.includes("styles")) return planes;
  return planes.map((value, at) => image[at] + strength * (value - image[at])); // a model of one style knows no strength
}

/** A bitmap's RGBA bytes, laid on white, with at most so many pixels. */
function pixelsOf(bitmap, most = Infinity) {
  const factor = Math.min(1, Math.sqrt(most / (bitmap.width * bitmap.height)));
  const width = Math.max(1, Math.round(bitmap.width * factor)), height = Math.max(1, Math.round(bitmap.height * factor));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

function scaledBy(picture, factor) {
  const side = (length) => Math.max(1, Math.round(length / factor));
  return smaller(picture, side(picture.width), side(picture.height));
}

/** Take a photo; give back what is shown of it. */
function open({ bitmap, shown }) {
  const full = pixelsOf(bitmap);
  const factor = Math.max(1, Math.sqrt((full.width * full.height) / shown));
  photo = { full, shown: scaledBy(full, factor) };
  painted = null;
  const { data, width, height } = photo.shown;
  return { before: new ImageData(data.slice(), width, height), width: full.width, height: full.height };
}

/** Run the network once for a choice; both the preview and the full size are made of what it gives. */
async function paint({ weights, strength, side }) {
  const key = JSON.stringify([weights, strength, side]);
  if (painted?.key === key) return painted.small;
  const { full } = photo, factor = reduction(full.width, full.height, side, MOST_PAINTED);
  const small = scaledBy(full, factor), planes = await run(small, weights, strength);
  painted = { key, small: factor > 1 ? guided(small, planes) : { planes, width: small.width, height: small.height } };
  return painted.small;
}

const actions = {
  load,
  open,
  async preview(choice) {
    const before = photo.shown, small = await paint(choice);
    const { data, width, height } = enlarged(small, before, choice.keepColours);
    return { after: new ImageData(data, width, height) };
  },
  async save(choice) {
    const small = await paint(choice), { width, height } = photo.full;
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    for (let first = 0; first < height; first += BAND) { // a large photo's result is not held a second time
      const band = enlarged(small, photo.full, choice.keepColours, first, BAND);
      context.putImageData(new ImageData(band.data, width, band.height), 0, first);
    }
    return { blob: await canvas.convertToBlob({ type: choice.type, quality: 0.95 }) };
  },
  async thumbnail({ weights, side }) {
    const { shown } = photo, factor = Math.max(1, Math.min(shown.width, shown.height) / side);
    const small = scaledBy(shown, factor), planes = await run(small, weights, 1);
    const { data, width, height } = enlarged({ planes, width: small.width, height: small.height }, small, false);
    return { image: new ImageData(data, width, height) };
  },
  async frame({ bitmap, most, weights, strength, keepColours }) {
    const small = pixelsOf(bitmap, most), { width, height } = small;
    const planes = await run(small, weights, strength);
    const { data } = enlarged({ planes, width, height }, small, keepColours);
    return { before: small, after: new ImageData(data, width, height) };
  },
};

// One after the other: a session runs one picture at a time.
let queue = Promise.resolve();
self.onmessage = ({ data: { id, kind, ...message } }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id, ...(await actions[kind](message)) });
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
