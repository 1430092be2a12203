"use strict";
const video = document.getElementById("video");
const curve = document.getElementById("curve");
const cursor = document.getElementById("cursor");
const duration = Number(curve.getAttribute("aria-valuemax"));  // in seconds
const width = document.getElementById("plot").viewBox.baseVal.width;

// the video, if it is inside the page
const mp4 = document.getElementById("mp4");
if (mp4) {
  const bytes = Uint8Array.from(atob(mp4.textContent.trim()), c => c.charCodeAt(0));
  video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
}

// the cursor follows the video
function follow() {
  const x = width * Math.min(1, video.currentTime / duration);
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  curve.setAttribute("aria-valuenow", video.currentTime.toFixed(1));
  curve.setAttribute("aria-valuetext", `${video.currentTime.toFixed(1)} of ${duration.toFixed(1)} seconds`);
}
function followWhilePlaying() {
  follow();
  if (!video.paused && !video.ended) requestAnimationFrame(followWhilePlaying);
}
video.addEventListener("play", followWhilePlaying);
for (const event of ["timeupdate", "seeked", "loadedmetadata"]) video.addEventListener(event, follow);

// the video goes to the moment that is chosen: on the curve, by a key, or by a picture
function seek(s) {
  video.currentTime = Math.max(0, Math.min(duration - 0.01, s));
}
function seekTo(event) {
  const box = curve.getBoundingClientRect();
  seek(duration * (event.clientX - box.left) / box.width);
}
curve.addEventListener("pointerdown", event => {
  curve.setPointerCapture(event.pointerId);
  seekTo(event);
});
curve.addEventListener("pointermove", event => {
  if (event.buttons) seekTo(event);
});
const steps = {ArrowLeft: -0.2, ArrowDown: -0.2, ArrowRight: 0.2, ArrowUp: 0.2, PageUp: -1, PageDown: 1};  // in seconds
curve.addEventListener("keydown", event => {
  const now = video.currentTime;
  const goal = {Home: 0, End: duration, " ": now}[event.key] ?? now + steps[event.key];
  if (Number.isNaN(goal)) return;
  event.preventDefault();
  if (event.key !== " ") seek(goal);
  else if (video.paused) video.play();
  else video.pause();
});
for (const button of document.querySelectorAll("[data-s]")) {
  button.addEventListener("click", () => {
    seek(Number(button.dataset.s));
    video.scrollIntoView({block: "nearest"});
  });
}
follow();
