;;; greencode.el --- Code completion that is worth its energy  -*- lexical-binding: t; -*-

;; Author: greencode-lsp contributors
;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: convenience, languages, tools
;; SPDX-License-Identifier: MIT

;;; Commentary:

;; Ghost text from greencode-lsp, a language server with a local early-exit model, and what it costs in the mode line.
;;
;;     (require 'greencode)
;;     (add-hook 'python-mode-hook #'greencode-mode)
;;
;; Tab takes what is shown, M-f its next word, C-e the rest of its line, C-g hides it; while nothing is shown these keys
;; are what they were.  The mode keeps its own connection, so it works beside any server of Eglot or lsp-mode.  Those
;; who want one of these to run the server find `greencode-eglot-register' and the library `greencode-lsp'.

;;; Code:

(require 'greencode-core)
(require 'greencode-ghost)
(require 'greencode-server)

(defconst greencode-largest-file 5000000
  "Buffers with more characters are left alone.")

(defvar greencode-preference-history nil)

;;;; The mode

(defun greencode-refusal ()
  "Return why the current buffer is left alone, nil where it is not."
  (cond ((null buffer-file-name) "it visits no file")
        ((file-remote-p buffer-file-name) "its file is remote")
        (buffer-read-only "it is read-only")
        ((> (buffer-size) greencode-largest-file) "it is larger than 5 MB")))

;;;###autoload
(define-minor-mode greencode-mode
  "Show what greencode-lsp suggests as ghost text, and what it costs.
Buffers that visit no file, and remote, read-only and very large
ones are left alone."
  :lighter (:eval (greencode-mode-line))
  (let ((refusal (and greencode-mode (greencode-refusal))))
    (when refusal
      (setq greencode-mode nil)
      (when (called-interactively-p 'any)
        (message "GreenCode leaves this buffer alone: %s" refusal))))
  (greencode-ghost-setup greencode-mode)
  (cond (greencode-mode
         (add-hook 'kill-buffer-hook #'greencode-close nil t)
         (add-hook 'change-major-mode-hook #'greencode-close nil t)
         ;; after the hooks of the buffer's mode, where Eglot or lsp-mode may start the server
         (run-with-timer 0 nil #'greencode--begin (current-buffer)))
        (t (greencode-close)
           (remove-hook 'kill-buffer-hook #'greencode-close t)
           (remove-hook 'change-major-mode-hook #'greencode-close t))))

(defun greencode--begin (buffer)
  "Start the server of BUFFER, so that its model is there when needed."
  (when (buffer-live-p buffer)
    (with-current-buffer buffer
      (when greencode-mode (greencode-buffer-server)))))

(defun greencode--connected (_connection)
  "Ask for what was typed before the server was ready."
  (with-current-buffer (window-buffer)
    (when greencode--unasked (greencode--ask-soon))))

(add-hook 'greencode-connected-functions #'greencode--connected)
(add-hook 'greencode-inhibit-functions #'greencode-refusal)

(defun greencode-complete ()
  "Ask for a suggestion at point."
  (interactive "*")
  (unless greencode-mode (user-error "Enable `greencode-mode' first"))
  (greencode--server-or-lose)
  (greencode-ask 1))

;;;; The mode line

(defvar greencode-mode-line-map
  (let ((map (make-sparse-keymap)))
    (define-key map [mode-line mouse-1] #'greencode-report)
    (define-key map [mode-line mouse-3] #'greencode-set-preference)
    map)
  "Keys of the mode line's text.")

(defun greencode-mode-line ()
  "Return the state, or the joules saved today, for the mode line."
  (let ((status (greencode-status)))
    (propertize (concat " " (greencode--summary status))
                'help-echo (greencode--tooltip status)
                'mouse-face 'mode-line-highlight
                'local-map greencode-mode-line-map)))

(defun greencode-status ()
  "Return the status of the current buffer's server, without starting one."
  (greencode-status-of (greencode--running-server)))

(defun greencode--running-server ()
  "Return the current buffer's server, nil where none is running."
  (or (run-hook-with-args-until-success 'greencode-server-functions)
      (and greencode--connection (jsonrpc-running-p greencode--connection) greencode--connection)))

(defun greencode--summary (status)
  "Return STATUS in a few words."
  (let ((state (plist-get status :state))
        (saved-j (plist-get (plist-get status :today) :saved_j)))
    (cond ((and greencode-trouble (null status)) "GreenCode off")
          ((null status) "GreenCode stopped")
          ((and (equal state "ready") saved-j) (format "GreenCode ~%s saved" (greencode-joules saved-j)))
          (t (concat "GreenCode " state)))))

(defun greencode--tooltip (status)
  "Return all of STATUS in lines."
  (let* ((last (plist-get status :last)) (today (plist-get status :today))
         (lines
          (list
           (or (plist-get status :reason) (and (null status) greencode-trouble))
           (when-let ((model (plist-get status :model)))
             (format "%s%s, preference %s" model
                     (if-let ((device (plist-get status :device))) (format " on %s" device) "")
                     (plist-get status :preference)))
           (when (plist-get last :energy_j)
             (format "last: %s (%s), %s layers of %s on average, %.0f ms"
                     (greencode-joules (plist-get last :energy_j)) (plist-get last :energy_tier)
                     (greencode--mean (plist-get last :exit_layers)) (plist-get last :layers)
                     (plist-get last :elapsed_ms)))
           (when (plist-get today :energy_j)
             (format "today: %s used%s, about %s saved against full depth (modelled)"
                     (greencode-joules (plist-get today :energy_j))
                     (if-let ((tier (plist-get today :energy_tier))) (format " (%s)" tier) "")
                     (greencode-joules (or (plist-get today :saved_j) 0))))
           "mouse-1: report, mouse-3: preference")))
    (string-join (delq nil lines) "\n")))

(defun greencode-joules (energy-j)
  "Return ENERGY-J, in joules, with a fitting unit."
  (cond ((>= (abs energy-j) 10000) (format "%.1f kJ" (/ energy-j 1000.0)))
        ((>= (abs energy-j) 100) (format "%.0f J" energy-j))
        ((>= (abs energy-j) 1) (format "%.1f J" energy-j))
        (t (format "%.2f J" (if (< (abs energy-j) 0.005) 0.0 energy-j))))) ; and not -0.00

(defun greencode--mean (numbers)
  "Return the mean of the vector NUMBERS as text."
  (if (zerop (length numbers)) "no"
    (format "%.1f" (/ (apply #'+ 0.0 (append numbers nil)) (length numbers)))))

;;;; Commands

(defun greencode--server-or-lose ()
  "Return the current buffer's running server, or say why there is none."
  (or (greencode--running-server)
      (user-error "GreenCode: %s" (or greencode-trouble "no server is running; enable `greencode-mode' in a file"))))

(defun greencode-set-preference (preference)
  "Let PREFERENCE hold for this session, a name or a number from 0 to 1."
  (interactive (list (greencode--read-preference)))
  (greencode-execute (greencode--server-or-lose) "greencode.setPreference" (list preference)
                     (lambda (value)
                       (when value (message "GreenCode: the preference is %s now" value)))))

(defun greencode--read-preference ()
  "Read a preference, each with what it costs on this device."
  (let* ((choices (plist-get (greencode-status) :choices))
         (costs (or (cl-loop for choice across (or choices [])
                             collect (cons (plist-get choice :name) choice))
                    '(("accuracy") ("balanced") ("energy"))))
         (note (lambda (name)
                 (when-let ((choice (cdr (assoc name costs))))
                   (greencode--cost choice))))
         (completion-extra-properties (list :annotation-function note))
         (answer (completing-read "Preference (or a number from 0 to 1): " costs nil nil nil
                                  'greencode-preference-history)))
    (if (string-match-p "\\`[0-9.]+\\'" answer) (string-to-number answer) answer)))

(defun greencode--cost (choice)
  "Return what CHOICE, an element of the status' choices, costs."
  (if (plist-get choice :cost_ratio)
      (format "  %.0f %% of full depth's cost, keeps %.0f %% of its tokens"
              (* 100 (plist-get choice :cost_ratio)) (* 100 (or (plist-get choice :agreement) 1)))
    ""))

(defun greencode-pull-model (name)
  "Get the model NAME of the server's catalogue; the server reports the result."
  (interactive "sModel (a name of `greencode-lsp models catalogue'): ")
  (greencode-execute (greencode--server-or-lose) "greencode.pullModel" (list name)))

(defun greencode-pause ()
  "Do no work at all until `greencode-resume'."
  (interactive)
  (greencode-ghost-clear)
  (greencode-execute (greencode--server-or-lose) "greencode.pause" nil))

(defun greencode-resume ()
  "Go on after `greencode-pause'."
  (interactive)
  (greencode-execute (greencode--server-or-lose) "greencode.resume" nil))

(defun greencode-report (&optional scope in-browser)
  "Show the energy used and saved in SCOPE: today, week or all.
With a prefix argument ask for SCOPE, and show the page IN-BROWSER."
  (interactive (and current-prefix-arg
                    (list (completing-read "Report of: " '("today" "week" "all") nil t nil nil "today") t)))
  (greencode-request (greencode--server-or-lose) "greencode/report"
                     (list :scope (or scope "today") :format (if in-browser "html" "json"))
                     (if in-browser #'greencode--browse-report #'greencode--show-report)
                     (lambda (sentence) (message "GreenCode: %s" sentence))))

(defun greencode--browse-report (report)
  "Show the page of REPORT in the browser."
  (let ((file (make-temp-file "greencode-report-" nil ".html" (plist-get report :html))))
    (browse-url (greencode-path-to-uri file))))

(defun greencode--show-report (report)
  "Show REPORT, a plist, as text."
  (with-current-buffer (get-buffer-create "*greencode report*")
    (let ((inhibit-read-only t))
      (erase-buffer)
      (greencode--insert-plist report 0))
    (special-mode)
    (goto-char (point-min))
    (display-buffer (current-buffer))))

(defun greencode--insert-plist (plist indent)
  "Insert the keys and values of PLIST, INDENT columns to the right."
  (cl-loop for (key value) on plist by #'cddr do
           (let ((name (concat (make-string indent ?\s) (greencode--key-name key))))
             (cond ((greencode--plist-p value)
                    (insert name "\n")
                    (greencode--insert-plist value (+ indent 2)))
                   ((and (vectorp value) (cl-some #'greencode--plist-p value))
                    (insert name "\n")
                    (cl-loop for row across value
                             unless (eql 0 (plist-get row :completions)) ; an hour without any
                             do (insert (make-string (+ indent 2) ?\s) (greencode--row row) "\n")))
                   (t (insert (format "%-26s%s\n" name (greencode--plain value))))))))

(defun greencode--plist-p (value)
  "Return non-nil where VALUE is a JSON object."
  (and (consp value) (keywordp (car value))))

(defun greencode--key-name (key)
  "Return KEY of a report as words."
  (string-replace "_" " " (substring (symbol-name key) 1)))

(defun greencode--row (plist)
  "Return PLIST, a row of a report, in one line.\nHow its joules are known is said above it."
  (string-join (cl-loop for (key value) on plist by #'cddr
                        unless (string-suffix-p "_tier" (symbol-name key))
                        collect (format "%s %s" (greencode--key-name key) (greencode--plain value)))
               ", "))

(defun greencode--plain (value)
  "Return VALUE of a report as a reader wants it."
  (pcase value
    ('nil "none")
    (:json-false "no")
    ('t "yes")
    ((pred floatp) (format "%.3g" value))
    ((pred vectorp) (mapconcat #'greencode--plain value "  "))
    (_ (format "%s" value))))

(defun greencode-doctor ()
  "Show what works and what does not, in Emacs and in the server."
  (interactive)
  (let* ((default-directory (greencode-own-folder))
         (program (car (greencode-program)))
         (found (executable-find program))
         (server (greencode--running-server))
         (refusal (greencode-refusal))
         (buffer (get-buffer-create "*greencode doctor*"))
         (facts (list (format "Emacs %s" emacs-version)
                      (format "%s is %s" program (or found "not found: install greencode-lsp with pip"))
                      (format "server: %s" (if server (or (plist-get (greencode-status) :state) "starting")
                                             (or greencode-trouble "not started")))
                      (format "this buffer: %s" (cond (refusal (concat "left alone, " refusal))
                                                      (greencode-mode "on")
                                                      (t "off, M-x greencode-mode turns it on"))))))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert (string-join facts "\n") "\n\n"))
      (special-mode))
    (display-buffer buffer)
    (when found
      (process-send-eof
       (make-process :name "greencode-doctor" :buffer buffer :noquery t :sentinel #'ignore
                     :connection-type 'pipe
                     :command `(,program ,@(remove "--stdio" (cdr (greencode-program))) "doctor")
                     :filter (lambda (_process text)
                               (with-current-buffer buffer
                                 (let ((inhibit-read-only t))
                                   (goto-char (point-max))
                                   (insert text)))))))))

;;;; Those who want Eglot to run the server

;;;###autoload
(defun greencode-eglot-register (&rest modes)
  "Let Eglot run greencode-lsp, and no other server, in the major MODES."
  (with-eval-after-load 'eglot
    (require 'greencode-eglot)
    (defvar eglot-server-programs)
    (add-to-list 'eglot-server-programs (cons modes (cons 'greencode-eglot-server (greencode-program))))))

(provide 'greencode)
;;; greencode.el ends here
