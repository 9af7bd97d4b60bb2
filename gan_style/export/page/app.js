// The page: what is chosen, what is shown. The work is done in worker.js.

const SHOWN = 1_000_000; // pixels of the preview, at most
const FRAME = { start: 60_000, least: 12_000, most: 250_000 }; // pixels of a camera's picture
const THUMBNAIL = 96;
const $ = (id) => document.getElementById(id);
$("from-file").hidden = true; // scripts run, so the page comes from a server
const description = await fetch("page.json").then((response) => response.json()).catch(() => null);

// ---------------------------------------------------------------------------------------------------- the worker

let worker, asked = 0;
const waiting = new Map();

function ask(kind, message = {}, transfer = []) {
  const id = ++asked;
  worker.postMessage({ id, kind, ...message }, transfer);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

function startWorker() {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data: { id, error, ...answer } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    error === undefined ? resolve(answer) : reject(new Error(error));
  };
  worker.onerror = (event) => {
    waiting.forEach(({ reject }) => reject(new Error(event.message || "the page's worker cannot be started")));
    waiting.clear();
  };
}

/** Have the page served by its service worker: it is isolated then, which threads need, and works without a network. */
async function isolate() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    if (crossOriginIsolated || sessionStorage.getItem("isolated")) return;
    sessionStorage.setItem("isolated", "tried");
    location.reload();
    await new Promise(() => {}); // until it has
  } catch {
    // A browser without service workers, or in private mode: one thread will do.
  }
}

// ---------------------------------------------------------------------------------------------------- what is said

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

let running = 0;

/** Show that something goes on; say what went wrong. */
async function busy(work) {
  $("drop").classList.toggle("working", ++running > 0);
  try {
    return await work();
  } catch (error) {
    const memory = /memory|allocat|out of bounds|RangeError/i.test(error.message);
    say(memory ? "There is not enough memory for this; choose medium or broad strokes, or a smaller photo." : error.message, true);
    return null;
  } finally {
    $("drop").classList.toggle("working", --running > 0);
  }
}

// ---------------------------------------------------------------------------------------------------- what is chosen

const styles = description?.styles ?? [];

function addStyles() {
  styles.forEach(({ label, about }, number) => {
    const item = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "style", value: number, checked: number === 0 });
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const name = Object.assign(document.createElement("span"), { textContent: label });
    item.title = about;
    item.append(input, canvas, name);
    $("styles").append(item);
    $("second").append(new Option(label, number));
  });
  $("styles-field").hidden = $("mix-field").hidden = styles.length < 2;
}

function choice() {
  const first = Number(document.querySelector("[name=style]:checked")?.value ?? 0), second = $("second").value;
  const weights = styles.map(() => 0), share = second === "" ? 0 : Number($("share").value) / 100;
  weights[first] += 1 - share;
  if (share) weights[Number(second)] += share;
  return {
    weights,
    strength: Number($("strength").value) / 100,
    keepColours: $("keep").checked,
    side: Number(document.querySelector("[name=side]:checked").value),
  };
}

function showChoice() {
  $("strength-value").textContent = `${$("strength").value} %`;
  $("share-value").textContent = `${$("share").value} %`;
  $("share-field").hidden = $("second").value === "";
}

// ---------------------------------------------------------------------------------------------------- a photo

let name = "photo", kind = "image/jpeg", size = null, wanted = 0, repainting = false;

function draw(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  if (canvas.id === "before") $("pair").style.setProperty("--ratio", image.width / image.height);
}

async function openPhoto(blob, title) {
  stopCamera();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    say(`${title} is not a picture that this browser can read.`, true);
    return;
  }
  await busy(async () => {
    const opened = await ask("open", { bitmap, shown: SHOWN }, [bitmap]);
    [name, kind, size] = [title.replace(/\.[^.]*$/, ""), blob.type === "image/png" ? "image/png" : "image/jpeg", opened];
    draw($("before"), opened.before);
    await repaint();
    await fillThumbnails();
  });
}

/** Paint the preview anew; while that goes on, only the latest choice counts. */
async function repaint() {
  wanted++;
  if (repainting || !size || filming) return;
  repainting = true;
  await busy(async () => {
    let done;
    do {
      done = wanted;
      const start = performance.now();
      draw($("after"), (await ask("preview", choice())).after);
      say(`${size.width} × ${size.height} pixels, painted in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    } while (done !== wanted);
  });
  repainting = false;
  $("save").disabled = false;
}

async function fillThumbnails() {
  const canvases = document.querySelectorAll("#styles canvas");
  for (const [number, canvas] of canvases.entries()) {
    const weights = styles.map((_, other) => Number(other === number));
    draw(canvas, (await ask("thumbnail", { weights, side: THUMBNAIL })).image);
  }
}

async function save() {
  await busy(async () => {
    say("Painting at full size…");
    const chosen = choice(), { blob } = await ask("save", { ...chosen, type: kind });
    const used = styles.filter((_, number) => chosen.weights[number] > 0).map((style) => style.name);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = [name, ...used].join("_") + (kind === "image/png" ? ".png" : ".jpg");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`${link.download}: ${size.width} × ${size.height} pixels`);
  });
}

// ---------------------------------------------------------------------------------------------------- the camera

let filming = null, facing = matchMedia("(pointer: coarse)").matches ? "environment" : "user";

async function startCamera() {
  if (!navigator.mediaDevices) return say("This page has no camera here: it takes https, or 127.0.0.1.", true);
  try {
    const video = { facingMode: { ideal: facing }, width: { ideal: 1280 } };
    filming = await navigator.mediaDevices.getUserMedia({ video });
  } catch (error) {
    return say(`The camera cannot be used (${error.message}).`, true);
  }
  $("video").srcObject = filming;
  await $("video").play();
  showCamera(true);
  const devices = await navigator.mediaDevices.enumerateDevices();
  $("turn").hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
  film(filming);
}

function stopCamera() {
  filming?.getTracks().forEach((track) => track.stop());
  filming = $("video").srcObject = null;
  showCamera(false);
}

function showCamera(on) {
  $("camera").setAttribute("aria-pressed", on);
  $("take").hidden = !on;
  $("turn").hidden = true;
  $("save").hidden = on;
}

/** Picture after picture, as large as the machine can follow. */
async function film(stream) {
  let most = FRAME.start, rate = 0, last = performance.now();
  while (filming === stream) {
    try {
      const bitmap = await createImageBitmap($("video"));
      const { before, after } = await ask("frame", { ...choice(), bitmap, most }, [bitmap]);
      if (filming !== stream) break;
      draw($("before"), before);
      draw($("after"), after);
      const now = performance.now(), seconds = (now - last) / 1000;
      [rate, last] = [rate ? 0.8 * rate + 0.2 / seconds : 1 / seconds, now];
      say(`${rate.toFixed(1)} frames/s at ${after.width} × ${after.height} pixels`);
      most = Math.min(FRAME.most, Math.max(FRAME.least, most * (seconds > 0.125 ? 0.9 : seconds < 0.06 ? 1.05 : 1)));
    } catch (error) {
      say(error.message, true);
      return stopCamera();
    }
    await new Promise(requestAnimationFrame);
  }
}

async function takePicture() {
  const video = $("video"), canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  await openPhoto(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 }), "camera");
}

// ---------------------------------------------------------------------------------------------------- events

function listen() {
  document.querySelector(".panel").addEventListener("input", () => { showChoice(); repaint(); });
  document.querySelector(".panel").addEventListener("submit", (event) => event.preventDefault());
  $("cut").addEventListener("input", () => $("pair").style.setProperty("--cut", `${$("cut").value}%`));
  for (const input of [$("file"), $("shot")]) {
    input.addEventListener("change", () => {
      if (input.files[0]) openPhoto(input.files[0], input.files[0].name);
      input.value = "";
    });
  }
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
      const [file] = kind === "drop" ? event.dataTransfer.files : [];
      if (file) openPhoto(file, file.name);
    });
  }
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) openPhoto(file, file.name);
  });
  $("save").addEventListener("click", save);
  $("take").addEventListener("click", takePicture);
  $("camera").addEventListener("click", () => (filming ? (stopCamera(), openSample()) : startCamera()));
  $("turn").addEventListener("click", () => {
    facing = facing === "user" ? "environment" : "user";
    stopCamera();
    startCamera();
  });
}

async function openSample() {
  await openPhoto(await (await fetch("sample.jpg")).blob(), "sample.jpg");
}

if (!description) {
  say("page.json is missing: this folder is not whole.", true);
} else {
  await isolate();
  addStyles();
  showChoice();
  startWorker();
  listen();
  const loaded = await busy(() => ask("load", { description, gpu: !new URLSearchParams(location.search).has("cpu") }));
  if (loaded) {
    $("about").textContent = `${description.about} Runs on the ${loaded.runtime}.`;
    document.body.dataset.runtime = loaded.runtime;
    await openSample();
    document.body.dataset.ready = "true";
  }
}
