// Pixels: what gan_style/stylize/paint.py does before and after the network, with the same numbers.
// Planes are Float32Arrays (channels x height x width); pictures are RGBA bytes as a canvas has them.

const LUMA = [0.299, 0.587, 0.114];
const FLAT = 1e-3; // variance of luma below which a window has no edge

/** For each place of a shorter line: the first place of the longer one that it sees, and its weights (a triangle). */
function triangle(from, to) {
  const scale = from / to, reach = Math.max(1, scale), taps = [];
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = [];
    for (let at = first; at < end; at++) weights.push(Math.max(0, 1 - Math.abs((at - centre + 0.5) / reach)));
    const sum = weights.reduce((a, b) => a + b);
    taps.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  return taps;
}

/** A picture made smaller, with antialiasing: RGBA bytes to RGBA bytes. */
export function smaller({ data, width, height }, newWidth, newHeight) {
  if (newWidth === width && newHeight === height) return { data, width, height };
  const columns = triangle(width, newWidth), rows = triangle(height, newHeight);
  const narrow = new Float32Array(height * newWidth * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * width * 4;
    for (const { first, weights } of columns) {
      let red = 0, green = 0, blue = 0, from = row + first * 4;
      for (const weight of weights) {
        red += weight * data[from]; green += weight * data[from + 1]; blue += weight * data[from + 2];
        from += 4;
      }
      narrow[to++] = red; narrow[to++] = green; narrow[to++] = blue;
    }
  }
  const result = new Uint8ClampedArray(newHeight * newWidth * 4).fill(255);
  rows.forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        weights.forEach((weight, k) => { sum += weight * narrow[((first + k) * newWidth + x) * 3 + channel]; });
        result[(y * newWidth + x) * 4 + channel] = Math.round(sum);
      }
    }
  });
  return { data: result, width: newWidth, height: newHeight };
}

/** RGBA bytes to RGB planes in [-1, 1]. */
export function toPlanes({ data, width, height }) {
  const size = width * height, planes = new Float32Array(3 * size);
  for (let at = 0; at < size; at++) {
    for (let channel = 0; channel < 3; channel++) planes[channel * size + at] = data[4 * at + channel] / 127.5 - 1;
  }
  return planes;
}

/** BT.601 luma in [0, 1] of RGB bytes. */
function luma(data, at) {
  return (LUMA[0] * data[at] + LUMA[1] * data[at + 1] + LUMA[2] * data[at + 2]) / 255;
}

/** Means over windows of 5 x 5, smaller at the edges. */
function windowMeans(plane, width, height) {
  const along = new Float32Array(plane.length), result = new Float32Array(plane.length);
  const pass = (source, target, lines, length, lineStep, step) => {
    for (let line = 0; line < lines; line++) {
      for (let at = 0; at < length; at++) {
        const first = Math.max(0, at - 2), last = Math.min(length - 1, at + 2);
        let sum = 0;
        for (let k = first; k <= last; k++) sum += source[line * lineStep + k * step];
        target[line * lineStep + at * step] = sum / (last - first + 1);
      }
    }
  };
  pass(plane, along, height, width, width, 1);
  pass(along, result, width, height, 1, width);
  return result;
}

/** How luma and a small result's colours go together around each place (the guided filter: He et al. 2010, eq. 5).
 *  Seven planes: the result's three, the photo's luma, and three gains. */
export function guided(photo, output) {
  const { data, width, height } = photo, size = width * height;
  const guide = Float32Array.from({ length: size }, (_, at) => luma(data, 4 * at));
  const mean = windowMeans(guide, width, height);
  const square = windowMeans(guide.map((value) => value * value), width, height);
  const planes = new Float32Array(7 * size);
  planes.set(output.subarray(0, 3 * size));
  planes.set(guide, 3 * size);
  for (let channel = 0; channel < 3; channel++) {
    const values = output.subarray(channel * size, (channel + 1) * size);
    const means = windowMeans(values, width, height);
    const products = windowMeans(guide.map((value, at) => value * values[at]), width, height);
    for (let at = 0; at < size; at++) {
      planes[(4 + channel) * size + at] = (products[at] - mean[at] * means[at]) / (square[at] - mean[at] ** 2 + FLAT);
    }
  }
  return { planes, width, height };
}

/** Places and weights of bicubic interpolation (a = -0.75) at the places of a longer line, clamped at its ends. */
function cubic(from, to) {
  const near = (t) => ((1.25 * t - 2.25) * t) * t + 1, far = (t) => ((-0.75 * t + 3.75) * t - 6) * t + 3;
  return Array.from({ length: to }, (_, place) => {
    const at = ((place + 0.5) * from) / to - 0.5, first = Math.floor(at), t = at - first;
    return {
      places: [-1, 0, 1, 2].map((k) => Math.min(from - 1, Math.max(0, first + k))),
      weights: [far(t + 1), near(t), near(1 - t), far(2 - t)],
    };
  });
}

/** Rows of a small result at the size of a photo: RGBA bytes. Detail that is too fine for the small one is the photo's.
 *  `small` is what `guided` made; without gains, of the photo's own size, it is taken as it is. */
export function enlarged(small, photo, keepColours, first = 0, count = photo.height) {
  const { width, height, data } = photo, end = Math.min(height, first + count);
  const result = new Uint8ClampedArray((end - first) * width * 4).fill(255);
  const same = small.width === width && small.height === height;
  const size = small.width * small.height, planes = same ? 3 : 7;
  const columns = same ? [] : cubic(small.width, width), rows = same ? [] : cubic(small.height, height);
  const line = new Float32Array(planes * small.width), values = new Float32Array(planes);
  for (let y = first; y < end; y++) {
    // A row of all planes, interpolated from four
    if (!same) {
      const { places: [a, b, c, d], weights: [wa, wb, wc, wd] } = rows[y], step = small.width;
      for (let plane = 0; plane < planes; plane++) {
        const from = small.planes.subarray(plane * size, (plane + 1) * size);
        for (let x = 0; x < step; x++) {
          line[plane * step + x] =
            wa * from[a * step + x] + wb * from[b * step + x] + wc * from[c * step + x] + wd * from[d * step + x];
        }
      }
    }
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4, light = luma(data, at);
      let made = 0;
      if (same) {
        for (let channel = 0; channel < 3; channel++) values[channel] = small.planes[channel * size + y * width + x];
      } else {
        const { places: [a, b, c, d], weights: [wa, wb, wc, wd] } = columns[x];
        for (let plane = 0; plane < planes; plane++) {
          const from = plane * small.width;
          values[plane] = wa * line[from + a] + wb * line[from + b] + wc * line[from + c] + wd * line[from + d];
        }
        const detail = light - values[3];
        for (let channel = 0; channel < 3; channel++) values[channel] += values[4 + channel] * detail;
      }
      for (let channel = 0; channel < 3; channel++) {
        values[channel] = Math.min(1, Math.max(-1, values[channel]));
        made += LUMA[channel] * (values[channel] * 0.5 + 0.5);
      }
      for (let channel = 0; channel < 3; channel++) {
        // The photo with the result's luma, or the result
        result[at - first * width * 4 + channel] = Math.round(
          keepColours ? data[at + channel] + 255 * (made - light) : (values[channel] + 1) * 127.5,
        );
      }
    }
  }
  return { data: result, width, height: end - first };
}

/** By how much a photo is made smaller to be painted: until its short side is `side` and it has at most `most` pixels. */
export function reduction(width, height, side, most) {
  return Math.max(1, Math.min(width, height) / side, Math.sqrt((width * height) / most));
}
