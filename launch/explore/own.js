// What only the served page has: a picture or a sound of one's own, embedded by the server on this machine.
"use strict";

// page: token, say(words), ask(query).
function startUploads(page) {
  const RATE = 48000;
  const LONGEST_SECONDS = 10;
  const LARGEST_BYTES = 64 * 2 ** 20; // the server's own limit
  const $ = (id) => document.getElementById(id);
  let recorder = null;
  $("own").hidden = false;

  async function send(blob) {
    page.say("Listening and looking ...");
    const answer = await fetch("embed", { method: "POST", headers: { "X-Token": page.token }, body: blob });
    const said = await answer.json();
    if (!answer.ok) return page.say(said.error);
    page.say("");
    const address = URL.createObjectURL(blob);
    page.ask({ clip: -1, ...said, [said.kind === "image" ? "picture" : "sound"]: address });
  }

  function sendSafely(blob) {
    send(blob).catch(() => page.say("The server does not answer: has it been stopped?"));
  }

  // A file of any form that this browser can hear goes as WAV; the server says what it thinks of others.
  function open(file) {
    if (file.size > LARGEST_BYTES) page.say(`That file is too large: at most ${LARGEST_BYTES / 2 ** 20} MB are taken.`);
    else if (file.type.startsWith("image/")) sendSafely(file);
    else asWav(file).then(sendSafely, () => sendSafely(file));
  }

  // A recording as a WAV file, mono at 48 kHz, as browsers record in forms of their own.
  async function asWav(blob) {
    const context = new OfflineAudioContext(1, 1, RATE);
    const sound = await context.decodeAudioData(await blob.arrayBuffer());
    const samples = sound.getChannelData(0);
    const file = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (at, letters) => [...letters].forEach((letter, i) => file.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    file.setUint32(4, 36 + 2 * samples.length, true);
    text(8, "WAVEfmt ");
    [[16, 16], [24, RATE], [28, 2 * RATE], [40, 2 * samples.length]].forEach(([at, n]) => file.setUint32(at, n, true));
    [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, n]) => file.setUint16(at, n, true));
    text(36, "data");
    samples.forEach((x, i) => file.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, x)) * 32767, true));
    return new Blob([file], { type: "audio/wav" });
  }

  async function record() {
    if (recorder) return recorder.stop();
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(microphone);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("stop", () => {
      recorder = null;
      microphone.getTracks().forEach((track) => track.stop());
      $("record").textContent = "Record a sound";
      asWav(new Blob(parts)).then(sendSafely, () => page.say("That recording cannot be decoded: was it long enough?"));
    });
    recorder.start();
    $("record").textContent = "Stop recording";
    setTimeout(() => recorder?.stop(), 1000 * LONGEST_SECONDS);
  }

  $("record").addEventListener("click", () => record().catch(() => page.say("There is no microphone, or no leave to use it.")));
  $("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
