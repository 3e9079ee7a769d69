"use strict";

// Filled in by the export: where the runtime lies, and the digests that its files must have.
const RUNTIME = $runtime;
const MODEL = "model.onnx", DESCRIPTION = "description.json";
const TOP = 5; // labels shown
const MAX_PIXELS = 12500000; // larger pictures are averaged to a half or a third, as in the app
const MAX_SIDE = 32767; // pixels; no browser has larger canvases
const STRIPE_PIXELS = 4000000; // copied out of the browser's picture at a time

const find = (id) => document.getElementById(id);
const status = find("status"), answers = find("answers"), drop = find("drop");
let queue = Promise.resolve(); // one picture at a time, in the order in which they came

/** Return the network and its description, loaded once. */
const loaded = (async () => {
  if (location.protocol === "file:") {
    throw new Error("Browsers load no networks from a folder. Start a web server in it, such as " +
      "“python -m http.server”, and open http://localhost:8000/.");
  }
  const [description, model, wasm, script] = await Promise.all([
    fetchFile(DESCRIPTION).then((answer) => answer.json()),
    fetchFile(MODEL).then((answer) => answer.arrayBuffer()),
    fetchFile(RUNTIME.wasm.url, RUNTIME.wasm.integrity).then((answer) => answer.arrayBuffer()),
    fetchFile(RUNTIME.script.url, RUNTIME.script.integrity).then((answer) => answer.blob()),
  ]);
  // The browser has compared both files with their digests; what it compared is what runs.
  const address = URL.createObjectURL(new Blob([script], {type: "text/javascript"}));
  const ort = await import(address);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need headers that simple web servers do not send
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, {executionProviders: ["wasm"]});
  return {ort, session, description};
})();

async function fetchFile(url, integrity) {
  const answer = await fetch(url, integrity ? {integrity, mode: "cors", credentials: "omit"} : {});
  if (!answer.ok) throw new Error(`${url} cannot be loaded (${answer.status}).`);
  return answer;
}

/** Decode a picture file: {width, height, rgb}, upright, transparency on white. */
async function decode(blob) {
  const orientation = await webpOrientation(blob);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: orientation > 1 ? "none" : "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("This is no picture that the browser can read.");
  }
  try {
    return turn(pixels(bitmap, bitmap.width, bitmap.height), orientation);
  } finally {
    bitmap.close();
  }
}

/** Return the EXIF orientation of a WebP file, which not every browser heeds; else 1. */
async function webpOrientation(blob) {
  const text = async (start) => new TextDecoder("latin1").decode(await blob.slice(start, start + 4).arrayBuffer());
  if (await text(0) !== "RIFF" || await text(8) !== "WEBP") return 1;
  for (let at = 12; at + 8 < blob.size;) {
    const length = new DataView(await blob.slice(at + 4, at + 8).arrayBuffer()).getUint32(0, true);
    if (await text(at) === "EXIF") return exifOrientation(await blob.slice(at + 8, at + 8 + length).arrayBuffer());
    at += 8 + length + length % 2;
  }
  return 1;
}

function exifOrientation(buffer) {
  try {
    let view = new DataView(buffer);
    if (view.getUint32(0) === 0x45786966) view = new DataView(buffer, 6); // "Exif" and two zeros
    const little = view.getUint16(0) === 0x4949, first = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(first, little); entry++) {
      const at = first + 2 + entry * 12;
      if (view.getUint16(at, little) === 0x0112) {
        const orientation = view.getUint16(at + 8, little);
        return orientation <= 8 ? orientation : 1;
      }
    }
  } catch {
    // a broken tag: the pixels are still good
  }
  return 1;
}

/** Turn pixels by an EXIF orientation. */
function turn({width, height, rgb}, orientation) {
  if (orientation < 2) return {width, height, rgb};
  const swapped = orientation > 4;
  const [newWidth, newHeight] = swapped ? [height, width] : [width, height];
  const fromRight = [2, 3, 7, 8].includes(orientation), fromBottom = [3, 4, 6, 7].includes(orientation);
  const turned = new Uint8Array(rgb.length);
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const [column, row] = swapped ? [y, x] : [x, y];
      const from = ((fromBottom ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column)) * 3;
      turned.set(rgb.subarray(from, from + 3), (y * newWidth + x) * 3);
    }
  }
  return {width: newWidth, height: newHeight, rgb: turned};
}

/** Return the RGB pixels of what a canvas can draw; large ones are averaged as the app does. */
function pixels(source, fullWidth, fullHeight) {
  if (Math.max(fullWidth, fullHeight) > MAX_SIDE) throw new Error("The picture is too large.");
  const factor = Math.max(1, Math.ceil(Math.sqrt(fullWidth * fullHeight / MAX_PIXELS)));
  const width = Math.ceil(fullWidth / factor), height = Math.ceil(fullHeight / factor);
  const rgb = new Uint8Array(width * height * 3);
  const rows = factor * Math.max(1, Math.floor(STRIPE_PIXELS / (fullWidth * factor)));
  const canvas = document.createElement("canvas");
  canvas.width = fullWidth;
  canvas.height = Math.min(rows, fullHeight);
  const context = canvas.getContext("2d", {willReadFrequently: true, colorSpace: "srgb"});
  for (let top = 0; top < fullHeight; top += rows) {
    const count = Math.min(rows, fullHeight - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, fullWidth, count);
    context.drawImage(source, 0, top, fullWidth, count, 0, 0, fullWidth, count);
    const {data} = context.getImageData(0, 0, fullWidth, count);
    average(data, fullWidth, count, factor, rgb, width, top / factor);
  }
  return {width, height, rgb};
}

/** Write the means of factor x factor pixels (RGBA) into rgb, from its row `first` on. */
function average(data, fullWidth, fullHeight, factor, rgb, width, first) {
  for (let y = 0; y * factor < fullHeight; y++) {
    for (let x = 0; x < width; x++) {
      const bottom = Math.min((y + 1) * factor, fullHeight);
      const right = Math.min((x + 1) * factor, fullWidth);
      let red = 0, green = 0, blue = 0;
      for (let row = y * factor; row < bottom; row++) {
        for (let column = x * factor; column < right; column++) {
          const at = (row * fullWidth + column) * 4;
          red += data[at];
          green += data[at + 1];
          blue += data[at + 2];
        }
      }
      const n = (bottom - y * factor) * (right - x * factor), to = ((first + y) * width + x) * 3;
      rgb[to] = Math.floor(red / n + 0.5);
      rgb[to + 1] = Math.floor(green / n + 0.5);
      rgb[to + 2] = Math.floor(blue / n + 0.5);
    }
  }
}

/** Return {labels: [{label, confidence}], probabilities, score, isOutside} for decoded pixels. */
async function classify({width, height, rgb}) {
  const {ort, session, description} = await loaded;
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const found = await session.run({image});
  const {measure, threshold} = description;
  const probabilities = Array.from(found.probabilities.data), score = found[measure].data[0];
  if (!probabilities.every(Number.isFinite)) throw new Error("The network computes no answer.");
  const labels = probabilities
    .map((confidence, index) => ({label: description.labels[index], confidence}))
    .sort((a, b) => b.confidence - a.confidence);
  return {labels, probabilities, score, isOutside: threshold !== null && score > threshold};
}

/** Classify a picture file and show the answer, after those that came before. */
function add(blob, name) {
  queue = queue.then(async () => {
    status.textContent = `Reading ${name} …`;
    // A pause, so that the line is drawn before the computation blocks the page.
    await new Promise((resolve) => setTimeout(resolve));
    try {
      const picture = await decode(blob);
      show(picture, await classify(picture), name);
      status.textContent = "";
    } catch (error) {
      showError(error, name);
    }
  });
  return queue;
}

function showError(error, name = "") {
  status.textContent = "";
  const line = make("p", [name, error.message].filter(Boolean).join(": "), "error");
  answers.prepend(line);
}

/** Return an element with that text; text of others is never parsed as HTML. */
function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function show(picture, answer, name) {
  const card = document.createElement("article"), words = document.createElement("div");
  const [first] = answer.labels, list = document.createElement("ol");
  words.append(make("h2", `${first.label}, ${percent(first.confidence)}`));
  if (answer.isOutside) {
    words.append(make("p", "Unlike the training pictures: it may show none of the classes.", "warning"));
  }
  for (const {label, confidence} of answer.labels.slice(0, TOP)) {
    const row = document.createElement("li"), bar = document.createElement("meter");
    bar.value = confidence;
    bar.setAttribute("aria-hidden", "true");
    row.append(make("span", label), make("span", percent(confidence)), bar);
    list.append(row);
  }
  words.append(list, make("p", name, "name"));
  card.append(thumbnail(picture, `${name}: ${first.label}`), words);
  answers.prepend(card);
}

function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

/** Return a small canvas with the pixels that the network got. */
function thumbnail({width, height, rgb}, description) {
  const scale = Math.min(1, 288 / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const from = (Math.floor(y / scale) * width + Math.floor(x / scale)) * 3;
      const to = (y * canvas.width + x) * 4;
      image.data.set([rgb[from], rgb[from + 1], rgb[from + 2], 255], to);
    }
  }
  context.putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", description);
  return canvas;
}

function addFiles(files) {
  for (const file of files) add(file, file.name || "pasted picture");
}

find("files").addEventListener("change", ({target}) => {
  addFiles(target.files);
  target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", ({clipboardData}) => addFiles(clipboardData.files));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, () => drop.classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  addFiles(event.dataTransfer.files);
});

const camera = find("camera"), live = find("live"), video = find("video");
camera.hidden = !navigator.mediaDevices?.getUserMedia;
camera.addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    await video.play();
    live.hidden = false;
    camera.hidden = true;
    find("shoot").focus();
  } catch {
    showError(new Error("The browser gives this page no camera."));
  }
});
find("shoot").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => add(blob, "camera"), "image/png");
});
find("close").addEventListener("click", () => {
  for (const track of video.srcObject.getTracks()) track.stop();
  live.hidden = true;
  camera.hidden = false;
  camera.focus();
});

loaded.then(() => {
  status.textContent = "Ready.";
}, (error) => {
  showError(error);
  status.textContent = "The network could not be loaded.";
});
if ("serviceWorker" in navigator && location.protocol !== "file:") {
  // After loading, so that the two do not load the same files at once.
  loaded.then(() => navigator.serviceWorker.register("offline.js")).catch(() => {});
}
