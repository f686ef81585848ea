// The data beside the page, and the search in it. A page from the disk may not read files: each is a script that calls
// explorer.take(NAME, VALUE), loaded when it is first needed.
"use strict";

const explorer = (() => {
  const loading = new Map(); // name → {promise, resolve}
  const vectors = new Map();

  function part(name) {
    if (!loading.has(name)) {
      const entry = {};
      loading.set(name, entry);
      entry.promise = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        entry.resolve = resolve;
        script.onload = () => script.remove();
        script.onerror = () => reject(new Error(`data/${name}.js is missing`));
        script.src = `data/${name}.js`;
        document.head.append(script);
      });
    }
    return loading.get(name).promise;
  }

  function take(name, value) {
    loading.get(name)?.resolve(value);
  }

  function bytes(text) {
    const binary = atob(text);
    const array = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) array[i] = binary.charCodeAt(i);
    return array;
  }

  // All embeddings of one kind ("image" or "audio") of a run: a promise of int8, clip after clip.
  function embeddings(about, run, kind) {
    const name = `vectors-${run}-${kind}`;
    if (!vectors.has(name)) {
      const count = Math.ceil(about.names.length / about.vectorsPerFile);
      const parts = Array.from({ length: count }, (_, k) => part(`${name}-${k}`));
      vectors.set(name, Promise.all(parts).then((texts) => {
        const dimensions = about.runs[run][kind].mean.length;
        const all = new Int8Array(about.names.length * dimensions);
        texts.forEach((text, k) => all.set(new Int8Array(bytes(text).buffer), k * about.vectorsPerFile * dimensions));
        for (let k = 0; k < count; k++) loading.delete(`${name}-${k}`);
        return all;
      }));
    }
    return vectors.get(name);
  }

  // The unit vector of one clip: a promise of float32.
  async function vector(about, run, kind, clip) {
    const all = await embeddings(about, run, kind);
    const { mean, scale } = about.runs[run][kind];
    return Float32Array.from(mean, (m, d) => m + scale * all[clip * mean.length + d]);
  }

  // Cosines of a query with all embeddings of a kind: a promise of float32. Every clip is looked at.
  async function cosines(about, run, kind, query) {
    const all = await embeddings(about, run, kind);
    const { mean, scale } = about.runs[run][kind];
    const dimensions = mean.length;
    const result = new Float32Array(about.names.length);
    let base = 0;
    for (let d = 0; d < dimensions; d++) base += query[d] * mean[d];
    for (let i = 0, at = 0; i < result.length; i++) {
      let sum = 0;
      for (let d = 0; d < dimensions; d++) sum += query[d] * all[at++];
      result[i] = base + scale * sum;
    }
    return result;
  }

  // The clips with the highest scores, best first, of those that `allowed(clip)`.
  function best(scores, count, allowed) {
    const found = [];
    for (let i = 0; i < scores.length; i++) {
      if (found.length === count && scores[i] <= scores[found[count - 1]]) continue;
      if (!allowed(i)) continue;
      let place = found.length;
      while (place > 0 && scores[found[place - 1]] < scores[i]) place--;
      found.splice(place, 0, i);
      if (found.length > count) found.pop();
    }
    return found;
  }

  // The place of a clip among all that are allowed, from 1.
  function rank(scores, clip, allowed) {
    let before = 0;
    for (let i = 0; i < scores.length; i++) before += scores[i] > scores[clip] && allowed(i);
    return before + 1;
  }

  return { part, take, bytes, vector, cosines, best, rank };
})();
