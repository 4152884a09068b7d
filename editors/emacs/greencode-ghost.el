;;; greencode-ghost.el --- Ghost text after point  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT

;;; Commentary:

;; Asks a server for an inline completion a moment after an edit, shows it after point, and takes it by Tab as a whole,
;; by word or by line.  The keys are only bound while ghost text is shown.  What is typed along shortens the ghost text
;; instead of asking again; an answer that comes after the buffer or point has changed is dropped.

;;; Code:

(require 'greencode-core)
(require 'seq)

(defcustom greencode-idle-delay 0.05
  "Seconds between an edit and the request for a completion."
  :type 'number
  :group 'greencode)

(defcustom greencode-inhibit-functions '(greencode-popup-visible-p region-active-p)
  "Functions that keep ghost text away while one returns non-nil."
  :type 'hook
  :group 'greencode)

(defface greencode-ghost
  '((t :inherit shadow :slant italic))
  "Face of ghost text."
  :group 'greencode)

(defvar greencode-shown-hook nil
  "Run in the buffer after ghost text was shown or shortened.")

(defvar-local greencode--ghost nil
  "The overlay that shows ghost text after point, nil while there is none.
Its properties: greencode-text, what is left to be inserted at its
place; greencode-item, the server's item; greencode-server;
greencode-taken, how many UTF-16 units of the item were inserted;
greencode-others, the other items for the place, the next one first.")
(defvar-local greencode--tick nil
  "The buffer's `buffer-chars-modified-tick' that was last looked at.")
(defvar-local greencode--size nil
  "The buffer's size at `greencode--tick'.")
(defvar-local greencode--timer nil)
(defvar-local greencode--cancel nil
  "The function that cancels the running request.")
(defvar-local greencode--unasked nil
  "Non-nil where an edit came before the server was ready for a request.")

(defvar greencode-ghost-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'greencode-accept)
    (define-key map (kbd "<tab>") #'greencode-accept)
    (define-key map [remap forward-word] #'greencode-accept-word)
    (define-key map [remap right-word] #'greencode-accept-word)
    (define-key map [remap move-end-of-line] #'greencode-accept-line)
    (define-key map (kbd "M-n") #'greencode-next)
    (define-key map (kbd "M-p") #'greencode-previous)
    (define-key map [remap keyboard-quit] #'greencode-dismiss)
    map)
  "Keys while ghost text is shown.")

(defvar greencode--emulation-alist (list (cons 'greencode--ghost greencode-ghost-map))
  "Puts `greencode-ghost-map' before the maps of minor modes.")

(add-to-list 'emulation-mode-map-alists 'greencode--emulation-alist)

(defconst greencode-word-regexp "\\`[[:space:]\n]*\\(?:[[:alnum:]_]+\\|[^[:alnum:]_[:space:]\n]+\\)?"
  "The next word of ghost text, with the space before it.
A word is made of letters, digits and underscores, or of other marks.")
(defconst greencode-line-regexp "\\`\n*.*"
  "The rest of ghost text's line, or its next line.")

;;;; When to ask

(defun greencode-popup-visible-p ()
  "Return non-nil while another completion has the keys.
That is company, corfu, completion-preview or a list of completions."
  (or (bound-and-true-p company-candidates)
      (bound-and-true-p completion-preview-active-mode)
      completion-in-region-mode))

(defun greencode-ghost-setup (on)
  "Follow the current buffer's edits if ON is non-nil, else leave it."
  (greencode-ghost-clear)
  (greencode--forget-request)
  (greencode--look)
  (pcase-dolist (`(,hook ,function)
                 '((post-command-hook greencode--post-command)
                   (window-buffer-change-functions greencode--focused)
                   (window-selection-change-functions greencode--focused)
                   (completion-in-region-mode-hook greencode--popup-changed)
                   (completion-preview-active-mode-hook greencode--popup-changed)
                   (company-completion-started-hook greencode--popup-changed)
                   (company-after-completion-hook greencode--popup-changed)))
    (if on (add-hook hook function nil t)
      (remove-hook hook function t))))

(defun greencode--focused (window)
  "Tell the server where the user has turned to the buffer of WINDOW.
It may read it in advance."
  (when (eq window (selected-window))
    (with-current-buffer (window-buffer window)
      (let ((server (greencode--running-server)))
        (when (and server (greencode-draws-ghost-p server) (greencode-knows-p server)
                   (not (run-hook-with-args-until-success 'greencode-inhibit-functions)))
          (greencode-notify server "textDocument/didFocus" (list :textDocument (greencode-document server))))))))

(defun greencode--look ()
  "Note the buffer as it is now."
  (setq greencode--tick (buffer-chars-modified-tick)
        greencode--size (buffer-size)))

(defun greencode--post-command ()
  "Keep, shorten or hide the ghost text, and ask again after an edit."
  (let ((edited (not (eql greencode--tick (buffer-chars-modified-tick)))))
    (cond ((and greencode--ghost (if edited (greencode--typed-along) (= (point) (overlay-start greencode--ghost))))
           (greencode--look))
          (t (greencode-ghost-clear)
             (greencode--look)
             (greencode--forget-request)
             (when edited (greencode--ask-soon))))))

(defun greencode--typed-along ()
  "Shorten the ghost text by what was typed; nil if it was something else."
  (let* ((start (overlay-start greencode--ghost))
         (text (overlay-get greencode--ghost 'greencode-text))
         (length (- (point) start)))
    (when (and (< 0 length (length text))
               (= (- (buffer-size) greencode--size) length)
               (string-prefix-p (buffer-substring-no-properties start (point)) text))
      (greencode--draw greencode--ghost (substring text length))
      t)))

(defun greencode--popup-changed (&rest _)
  "Hide the ghost text for another completion; ask again after it."
  (greencode-ghost-clear)
  (greencode--forget-request)
  (unless (greencode-popup-visible-p) (greencode--ask-soon)))

(defun greencode--forget-request ()
  "Drop the waiting or running request."
  (when greencode--timer (cancel-timer greencode--timer))
  (when greencode--cancel (funcall greencode--cancel))
  (setq greencode--timer nil greencode--cancel nil))

(defun greencode--ask-soon ()
  "Ask for a completion after `greencode-idle-delay'."
  (when greencode--timer (cancel-timer greencode--timer))
  (setq greencode--timer (run-with-timer greencode-idle-delay nil #'greencode--ask-if-current
                                         (current-buffer) (buffer-chars-modified-tick) (point))))

(defun greencode--ask-if-current (buffer tick point)
  "Ask for BUFFER if its text and point are still those of TICK and POINT."
  (when (greencode--current-p buffer tick point)
    (with-current-buffer buffer
      (unless (or buffer-read-only
                  (run-hook-with-args-until-success 'greencode-inhibit-functions))
        (setq greencode--unasked (not (greencode-ask 2)))))))

(defun greencode--current-p (buffer tick point)
  "Return non-nil where BUFFER is looked at, and still as it was at TICK and POINT."
  (and (buffer-live-p buffer)
       (eq buffer (window-buffer))
       (with-current-buffer buffer
         (and (eql tick (buffer-chars-modified-tick)) (eql point (point))))))

(defun greencode-ask (trigger &optional step)
  "Request an inline completion at point.
TRIGGER is 1 for asked by hand, 2 for automatic.  STEP is 1 or -1
where another one than the one that is shown was asked for.  Return
nil where no server is ready."
  (let ((server (greencode-buffer-server))
        (buffer (current-buffer)) (tick (buffer-chars-modified-tick)) (point (point)))
    (when (and server (greencode-draws-ghost-p server) (greencode-sync server))
      (greencode--forget-request)
      (setq greencode--cancel
            (greencode-request
             server "textDocument/inlineCompletion"
             (list :textDocument (greencode-document server)
                   :position (greencode-position (greencode-encoding server))
                   :context (list :triggerKind trigger))
             (lambda (result)
               (when (greencode--current-p buffer tick point)
                 (with-current-buffer buffer (greencode--answered server result step)))))))))

(declare-function greencode-buffer-server "greencode-server")
(declare-function greencode--running-server "greencode")

;;;; What is shown

(defun greencode--answered (server result &optional step)
  "Show the first item of RESULT, which SERVER gave for point as it is.
If that is shown already and STEP is 1 or -1, show the one after or
before it."
  (setq greencode--cancel nil)
  (let ((items (greencode--fitting server (if (vectorp result) result (plist-get result :items))))
        (shown (greencode-ghost-text)))
    (unless (or (null items) (run-hook-with-args-until-success 'greencode-inhibit-functions))
      (greencode--show server items)
      (when (and step (equal shown (greencode-ghost-text)))
        (greencode--turn step)))))

(defun greencode--fitting (server items)
  "Return those of SERVER's ITEMS that have something to insert at point."
  (seq-filter (lambda (item)
                (not (member (greencode--insertion item (greencode-encoding server)) '(nil ""))))
              (append items nil)))

(defun greencode--show (server items)
  "Show the first of ITEMS, which SERVER gave for point."
  (let ((item (car items)))
    (greencode-ghost-clear)
    (greencode--look)
    (setq greencode--ghost (make-overlay (point) (point) nil t nil))
    (overlay-put greencode--ghost 'greencode-item item)
    (overlay-put greencode--ghost 'greencode-others (cdr items))
    (overlay-put greencode--ghost 'greencode-server server)
    (overlay-put greencode--ghost 'greencode-taken 0)
    (greencode--draw greencode--ghost (greencode--insertion item (greencode-encoding server)))
    (greencode-notify server "textDocument/didShowCompletion" (list :item item))))

(defun greencode--turn (step)
  "Show the next of several suggestions, or with a STEP of -1 the one before.
Return nil where there is no other one."
  (let* ((server (overlay-get greencode--ghost 'greencode-server))
         (item (overlay-get greencode--ghost 'greencode-item))
         (others (greencode--fitting server (overlay-get greencode--ghost 'greencode-others))))
    (when others
      (greencode--show server (if (< step 0)
                                  (append (last others) (list item) (butlast others))
                                (append others (list item))))
      t)))

(defun greencode--insertion (item encoding)
  "Return the text of ITEM for point, nil where it would change other text.
ENCODING is of its columns."
  (let* ((text (plist-get item :insertText))
         (range (plist-get item :range))
         (place (lambda (key) (greencode-column-to-point (plist-get (plist-get range key) :character) encoding)))
         (start (if range (funcall place :start) (point)))
         (end (if range (funcall place :end) (point))))
    (when (and (stringp text) (<= start (point) end))
      (let ((before (buffer-substring-no-properties start (point)))
            (after (buffer-substring-no-properties (point) end)))
        (when (and (string-prefix-p before text) (string-suffix-p after text)
                   (<= (+ (length before) (length after)) (length text)))
          (substring text (length before) (- (length text) (length after))))))))

(defun greencode--draw (ghost text)
  "Let GHOST show TEXT after point."
  (let ((shown (propertize text 'face 'greencode-ghost)))
    ;; without it, point at the end of a line is drawn after the ghost text
    (put-text-property 0 1 'cursor t shown)
    (move-overlay ghost (point) (point))
    (overlay-put ghost 'greencode-text text)
    (overlay-put ghost 'after-string shown)
    (overlay-put ghost 'window (selected-window))
    (run-hooks 'greencode-shown-hook)))

(defun greencode-ghost-clear ()
  "Hide the ghost text."
  (when greencode--ghost
    (delete-overlay greencode--ghost)
    (setq greencode--ghost nil)))

(defun greencode-ghost-text ()
  "Return the ghost text after point, nil where there is none."
  (and greencode--ghost (overlay-get greencode--ghost 'greencode-text)))

;;;; What is taken

(defun greencode-accept ()
  "Insert the ghost text."
  (interactive "*")
  (greencode--take (length (greencode-ghost-text))))

(defun greencode-accept-word ()
  "Insert the ghost text's next word."
  (interactive "*")
  (greencode--take-match greencode-word-regexp))

(defun greencode-accept-line ()
  "Insert the ghost text up to the end of its line."
  (interactive "*")
  (greencode--take-match greencode-line-regexp))

(defun greencode-next ()
  "Show the next suggestion for point; ask for more than one the first time."
  (interactive "*")
  (greencode--another 1))

(defun greencode-previous ()
  "Show the suggestion for point before this one."
  (interactive "*")
  (greencode--another -1))

(defun greencode--another (step)
  "Show another suggestion, STEP further, or ask for several."
  (unless (and greencode--ghost
               (zerop (overlay-get greencode--ghost 'greencode-taken))
               (greencode--turn step))
    (greencode-ask 1 step)))

(defun greencode-dismiss ()
  "Hide the ghost text until the next edit."
  (interactive)
  (greencode-ghost-clear))

(defun greencode--take-match (regexp)
  "Insert what REGEXP matches of the ghost text."
  (when (string-match regexp (or (greencode-ghost-text) ""))
    (greencode--take (match-end 0))))

(defun greencode--take (length)
  "Insert LENGTH characters of the ghost text and keep showing the rest."
  (let ((ghost greencode--ghost) (text (greencode-ghost-text)))
    (unless text (user-error "There is no ghost text"))
    (undo-boundary)
    (insert (substring text 0 length))
    (let* ((server (overlay-get ghost 'greencode-server))
           (item (overlay-get ghost 'greencode-item))
           (command (plist-get item :command))
           (taken (+ (overlay-get ghost 'greencode-taken)
                     (greencode--units (- (point) length) (point) 'utf-16))))
      (cond ((< length (length text))
             (greencode--look)
             (overlay-put ghost 'greencode-taken taken)
             (greencode--draw ghost (substring text length))
             (greencode-notify server "textDocument/didPartiallyAcceptCompletion"
                               (list :item item :acceptedLength taken)))
            (t (greencode-ghost-clear)
               (when command
                 (greencode-execute server (plist-get command :command)
                                    (append (plist-get command :arguments) nil))))))))

(provide 'greencode-ghost)
;;; greencode-ghost.el ends here
